"""The folder of a run: recipe.yaml, state.safetensors, best and last weights, log.jsonl, card.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import RecipeError
from featherpose.train.recipe import Recipe, load, to_yaml


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files, and the writing of its text files."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything that is needed to go on."""
        return self.path / "state.safetensors"

    @property
    def best(self) -> Path:
        """Averaged weights that scored best on the validation part, at the largest size reached."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Averaged weights at the end."""
        return self.path / "last.safetensors"

    @property
    def card(self) -> Path:
        """What was done and what came out."""
        return self.path / "card.json"

    @property
    def records(self) -> Path:
        """One JSON object a line: every 50 steps, and every validation."""
        return self.path / "log.jsonl"

    def prepare(self, recipe: Recipe, resume: bool) -> None:
        """Make the folder, or check that it holds a run of the same recipe when resuming."""
        written = self.path / "recipe.yaml"
        if self.state.exists() and not resume:
            raise RecipeError(f"{self.path} holds a run already; add --resume to go on with it, or take another --out.")
        if resume and written.exists() and load(written).digest != recipe.digest:
            raise RecipeError(f"{written} is not the recipe that was given; resume with --resume --out alone.")
        self.path.mkdir(parents=True, exist_ok=True)
        files.replace(written, to_yaml(recipe).encode())

    def forget_after(self, step: int, judged: list[dict[str, Any]]) -> None:
        """Drop the records that a killed run wrote after its last saved state; `judged`: the validations in it."""
        if self.records.exists():
            records = (_parse(line) for line in self.records.read_text().splitlines())
            kept = [r for r in records if r and r["step"] <= step and ("ap" not in r or r in judged)]
            files.replace(self.records, "".join(f"{json.dumps(record)}\n" for record in kept).encode())

    def log(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.records.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def write_card(self, card: dict[str, Any]) -> None:
        """Write the run card."""
        files.replace(self.card, json.dumps(card, indent=1).encode())


def _parse(line: str) -> dict[str, Any] | None:
    """One record; None for a line that was being written when the run was killed."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
