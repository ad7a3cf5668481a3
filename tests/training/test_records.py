"""Training log: JSON lines that survive a kill, and TensorBoard scalars where it is installed."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")
from featherpose.training.records import Records

pytestmark = pytest.mark.torch


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_records_after_saved_state_are_dropped(tmp_path: Path) -> None:
    validated = {"step": 50, "pck": 2.0}
    first = Records(tmp_path, 0, [])
    for record in (
        {"step": 50, "loss": 1.0, "lr": 0.1},
        validated,
        {"step": 100, "loss": 0.5, "lr": 0.1},
        {"step": 100, "pck": 3.0},
    ):
        first.add(record)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 150, "lo')
    Records(tmp_path, 100, [validated]).add({"step": 150, "loss": 0.4, "lr": 0.1})
    assert lines(tmp_path) == [
        {"step": 50, "loss": 1.0, "lr": 0.1},
        validated,
        {"step": 100, "loss": 0.5, "lr": 0.1},
        {"step": 150, "loss": 0.4, "lr": 0.1},
    ]


def test_tensorboard_gets_every_scalar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, **options: Any) -> None:
            written.append((folder, options["purge_step"]))

        def add_scalar(self, *scalar: Any) -> None:
            written.append(scalar)

    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    Records(tmp_path, 7, []).add({"step": 8, "loss": 0.5, "input_size": {"height": 128, "width": 96}})
    assert written == [(str(tmp_path / "tensorboard"), 8), ("loss", 0.5, 8)]
