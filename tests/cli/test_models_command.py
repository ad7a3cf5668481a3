"""featherpose models, as a user types it."""

import json

import pytest
from click.testing import CliRunner, Result

from featherpose import weights
from featherpose.cli import featherpose
from featherpose.manifest import Manifest, read_manifest


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def run(*words: str) -> Result:
    return CliRunner().invoke(featherpose, ["models", *words], catch_exceptions=False)


def test_each_shipped_model_has_a_row_of_a_hundred_columns() -> None:
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) <= 100
    names = {card["name"] for card in weights.shipped_cards()}
    assert {line.split()[0] for line in lines[1 : 1 + len(names)]} == names


def test_a_row_shows_what_the_card_says() -> None:
    card = json.loads(weights.find("default", ".json").read_text())
    scores = next(entry["percent"] for entry in card["accuracy"] if entry["data"] == "coco-test")
    (row,) = [line for line in run().stdout.splitlines() if line.startswith(weights.ALIASES["default"])]
    low, high = scores["ap_interval"]
    assert row.split()[1:4] == ["default", "192x128", f"{card['files'][0]['bytes'] / 1e6:.1f}"]
    assert f"{scores['ap']} ({low} to {high})" in row


def test_a_file_prints_its_manifest() -> None:
    manifest = read_manifest(weights.find("small"))
    for words in ("small",), (str(weights.find("small")), "--json"):
        assert Manifest.from_json(run(*words).stdout) == manifest


def test_json_has_sizes_with_named_sides_and_latency() -> None:
    found = {model["name"]: model for model in json.loads(run("--json").stdout)}
    small = found[weights.ALIASES["small"]]
    assert (small["alias"], small["input_size"]) == ("small", {"height": 128, "width": 96})
    assert 0 < small["relative_latency"] < found[weights.ALIASES["accurate"]]["relative_latency"]
    assert [model["ap"] for model in found.values()] == sorted((m["ap"] for m in found.values()), reverse=True)
