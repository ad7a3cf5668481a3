"""Training log: one JSON object per line, and TensorBoard event files where TensorBoard is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featherpose import files

STEPS_BETWEEN_RECORDS = 50
"""Steps between two records of the loss; every validation is recorded too."""


class Records:
    """log.jsonl of a run folder, from `step` on when a run is resumed.

    Records that a killed run wrote after its last saved state are dropped; `validated` holds the validation results in
    that state.
    """

    def __init__(self, folder: Path, step: int, validated: list[dict[str, Any]]) -> None:
        self.path = folder / "log.jsonl"
        if self.path.exists():
            records = (_parse(line) for line in self.path.read_text(encoding="utf-8").splitlines())
            kept = [r for r in records if r and r["step"] <= step and ("lr" in r or r in validated)]
            files.replace(self.path, "".join(f"{json.dumps(record)}\n" for record in kept).encode())
        self._board = _tensorboard(folder, step)

    def add(self, record: dict[str, Any]) -> None:
        """Append one record: numbers by name, including `step`."""
        files.append(self.path, json.dumps(record))
        for name, value in record.items():
            if self._board and name != "step" and isinstance(value, int | float):
                self._board.add_scalar(name, value, record["step"])


def _tensorboard(folder: Path, step: int) -> Any:
    """Writer of event files in `tensorboard/`, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=30)


def _parse(line: str) -> dict[str, Any] | None:
    """Line -> record; None for a line that was incomplete when the run was killed."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
