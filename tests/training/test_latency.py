"""The script that measures the latency of every network in turn, relative to a baseline network."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose import weights
from featherpose.manifest import read_manifest
from featherpose.runtime.session import Session
from featherpose.size import Size
from tests.families import shorten
from tests.tiny_model import tiny_manifest, tiny_model
from tests.training.test_benchmark import script

pytestmark = pytest.mark.torch


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("latency", monkeypatch)


@pytest.fixture
def models(latency: ModuleType, tmp_path: Path) -> Path:
    """Folder with the baseline and two networks as models of a few kilobytes, one with another input size."""
    for name, size in (
        (f"{latency.BASELINE}-plain", Size(height=64, width=48)),
        ("rep_pose", Size(height=64, width=48)),
        ("inverted_pose", Size(height=64, width=96)),
    ):
        tiny_model(tmp_path / f"{name}.onnx", tiny_manifest(network=name, input_size=size))
    return tmp_path


def run(latency: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["latency.py", *map(str, words)])
    latency.main()


def test_shipped_models_are_listed_by_name(latency: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "shipped_cards", lambda: [{"name": "tiny-64x48"}])
    monkeypatch.setattr(weights, "find", lambda name: models / "rep_pose.onnx")
    run(latency, monkeypatch, "--shipped", "--rounds", 1, "--models", models, "--out", models / "shipped.json")
    (line,) = json.loads((models / "shipped.json").read_text())["networks"]
    assert (line["network"], line["input_size"]) == ("tiny-64x48", "64x48")
    with pytest.raises(SystemExit):
        run(latency, monkeypatch, "rep_pose", "--shipped")


def test_two_networks_are_measured_in_turn(
    latency: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = models / "results/latency.json"
    run(latency, monkeypatch, "rep_pose", "inverted_pose", "--rounds", 3, "--models", models, "--out", out)
    facts = json.loads(out.read_text())
    assert (facts["rounds"], facts["threads"], facts["batch_size"]) == (3, 1, 1)
    assert facts["machine"]["cpu"] and facts["versions"]["onnxruntime"]
    assert facts["yardstick"]["network"] == latency.PLAIN and facts["yardstick"]["ratio"] == 1
    assert [(line["network"], line["input_size"]) for line in facts["networks"]] == [
        ("rep_pose", "64x48"),
        ("inverted_pose", "64x96"),
    ]
    for line in facts["networks"]:
        low, high = line["spread_ms"]
        assert 0 < low <= line["latency_ms"] <= high
        assert line["runs"] == 3 * latency.MAX_RUNS and line["ratio"] > 0
    said = capsys.readouterr()
    assert {"rep_pose", "inverted_pose", latency.BASELINE} < set(said.out.split())
    assert "round 3 of 3" in said.err


def test_selected_networks_are_not_written(latency: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the results file would lose the other networks."""
    monkeypatch.setattr(latency, "HERE", models)
    run(latency, monkeypatch, "rep_pose", "--rounds", 1, "--models", models)
    assert not (models / "results").exists()


def test_rounds_run_slow_networks_less_often(
    latency: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    cost = {"rep_pose": 50.0, "inverted_pose": 400.0}
    sessions = {name: Session.open(models / f"{name}.onnx", "cpu", threads=1) for name in cost}
    monkeypatch.setattr(latency, "_run", lambda session, crop: ran.append(session.manifest.network) or cost[ran[-1]])
    times = latency.measure(sessions, 2)
    assert times == {"rep_pose": [[50.0] * 6] * 2, "inverted_pose": [[400.0] * latency.MIN_RUNS] * 2}
    turns = [name for name, before in zip(ran[4:], ["", *ran[4:]], strict=False) if name != before]
    assert sorted(turns[:2]) == sorted(cost)


def test_ratio_is_computed_within_a_round(latency: ModuleType) -> None:
    """The second round is ten times slower for both, which changes the medians but not the ratio."""
    line = latency.summary(
        "cpm", Size(height=256, width=192), [[2.0, 2.0, 2.0], [20.0, 20.0, 20.0]], [[4.0] * 3, [40.0] * 3]
    )
    assert (line["network"], line["input_size"], line["runs"]) == ("cpm", "256x192", 6)
    assert (line["ratio"], line["ratio_spread"]) == (0.5, [0.5, 0.5])
    assert (line["latency_ms"], line["spread_ms"]) == (11.0, [2.0, 20.0])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["rep_pos"], "Did you mean 'rep_pose'"), (["rep_pose", "--rounds", "0"], "wanted at least 1")],
)
def test_invalid_arguments_are_usage_errors(
    latency: ModuleType,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(latency, monkeypatch, *words)
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite_hrnet_18", "rep_pose"])
def test_untrained_networks_export_at_default(
    latency: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    path = latency.exported(name, tmp_path)
    manifest = read_manifest(path)
    assert (manifest.network, manifest.input_size) == (name, Size(height=256, width=192))
    written = path.stat().st_mtime_ns
    assert latency.exported(name, tmp_path).stat().st_mtime_ns == written
