"""The table of networks is up to date: its rows are counted again."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
import make_table

from featherpose.errors import ModelError

pytestmark = pytest.mark.torch

FACTS = make_table.read_facts()
ROWS = {row["name"]: row for row in json.loads(make_table.TABLE.read_text())}
QUICK = {"shufflenet_v2", "inverted_pose"}
"""Counted in every run; the others take a minute and are marked slow."""


def named(name: str):
    return pytest.param(name, id=name, marks=[] if name in QUICK else [pytest.mark.slow])


def test_every_network_has_a_table_row():
    assert set(ROWS) == set(make_table.ALL), "run python tools/make_table.py"


@pytest.mark.parametrize("name", [named(name) for name in make_table.ALL])
def test_row_equals_a_fresh_count(name: str):
    assert ROWS[name] == make_table.row(name, FACTS), "run python tools/make_table.py"


@pytest.mark.parametrize("name", make_table.ALL)
def test_row_equals_the_networks_yaml_entry(name: str):
    described = make_table.describe(FACTS["networks"][name], FACTS)
    assert {key: ROWS[name][key] for key in described} == described, "run python tools/make_table.py"


def test_reparameterized_network_has_fewer_macs():
    assert ROWS["rep_pose"]["macs_run"] < ROWS["rep_pose"]["macs"]


def test_network_without_entry_raises_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(make_table, "ALL", [*make_table.ALL, "newcomer"])
    with pytest.raises(ModelError, match="has no entry for newcomer;"):
        make_table.read_facts()


def test_latency_matches_network_and_input_size(tmp_path: Path):
    file = tmp_path / "latency.json"
    nothing = {"latency_ms": None, "latency_on": None}
    assert make_table.latency("cpm", "256x192", file) == nothing
    lines = [("cpm", "128x96", 2.0), ("cpm", "256x192", 7.5), ("swin_t", "256x192", 9.0)]
    keys = ("network", "input_size", "latency_ms")
    networks = [dict(zip(keys, line, strict=True)) for line in lines]
    file.write_text(json.dumps({"machine": {"cpu": "AMD"}, "networks": networks}))
    assert make_table.latency("cpm", "256x192", file) == {"latency_ms": 7.5, "latency_on": "AMD"}
    assert make_table.latency("swin_t", "128x96", file) == nothing
