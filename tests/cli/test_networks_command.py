"""featherpose networks, as a user types it."""

import csv
import io
import json

import pytest
from click.testing import CliRunner, Result

from featherpose import zoo
from featherpose.cli import featherpose

NAMES = [entry.name for entry in zoo.read()]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def run(*words: str) -> Result:
    return CliRunner().invoke(featherpose, ["networks", *words], catch_exceptions=False)


def row(name: str) -> str:
    """The line of the table, its cells one blank apart."""
    (line,) = [line for line in run().stdout.splitlines() if line.startswith(f"{name} ")]
    return " ".join(line.split())


def test_a_line_for_each_network_in_a_hundred_columns() -> None:
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2 : len(NAMES) + 2]] == NAMES  # none is wrapped or cut
    assert "…" not in "".join(lines)


def test_a_row_says_what_the_table_says() -> None:
    ms = {entry.name: f"{entry.latency_ms:.1f}" for entry in zoo.read() if entry.latency_ms}
    lite, large = ms["lite_hrnet_18"], ms["hrnet_w48"]
    assert row("lite_hrnet_18") == f"lite_hrnet_18 1.13 242.3 198.6 256x192 {lite} 64.8 85.4 Yu 2021"
    assert row("hrnet_w48") == f"hrnet_w48 63.60 15,692 256x192 {large} 75.1 Sun 2019"
    assert row("cbam_lite_hrnet_18").startswith("cbam_lite_hrnet_18 yes 1.08 214.7 187.3 256x192")


def test_a_word_chooses_and_explains() -> None:
    out = run("lite_hrnet_30").stdout
    rows = [line.split()[0] for line in out.splitlines() if "256x192 " in line]
    assert rows == ["cbam_lite_hrnet_30", "lite_hrnet_30"]
    assert "AP 70.4 (COCO val2017, 384x288, boxes detected, flip test; the authors' code)" in out
    assert "https://arxiv.org/abs/2104.06403" in out
    assert "319.2 M" in out


def test_csv_has_full_counts_and_every_score() -> None:
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(run("--csv").stdout))}
    assert list(rows) == NAMES
    lite = rows["lite_hrnet_18"]
    assert (lite["parameters"], lite["macs"], lite["macs_run"]) == ("1130769", "242345088", "198626688")
    assert (lite["ap"], lite["pckh"], lite["weights"]) == ("64.8", "85.4", "False")
    assert lite["published"].count(" | ") == 3


def test_json_is_the_whole_table() -> None:
    everything = json.loads(run("--json").stdout)
    assert [entry["name"] for entry in everything] == NAMES
    (cpm,) = json.loads(run("cpm", "--json").stdout)
    assert cpm["paper"]["year"] == 2016
    assert cpm["published"][0]["percent"] == 62.3
    assert cpm["latency_ms"] is None or cpm["latency_ms"] > 0


def test_csv_and_json_at_once_are_refused() -> None:
    done = run("--csv", "--json")
    assert done.exit_code == 2
    assert "choose one" in done.stderr
