"""The folder of a run: recipe.yaml, state.safetensors, best and last weights, log.jsonl, card.json and card.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.charts import curves
from featherpose.errors import RecipeError
from featherpose.recipes.recipe import Recipe, load, to_yaml
from featherpose.training.card import markdown


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

    def prepare(self, recipe: Recipe, resume: bool) -> None:
        """Make the folder, or check that it holds a run of the same recipe when resuming."""
        written = self.path / "recipe.yaml"
        if self.state.exists() and not resume:
            raise RecipeError(f"{self.path} holds a run already; add --resume to go on with it, or take another --out.")
        if resume and written.exists() and load(written).digest != recipe.digest:
            raise RecipeError(f"{written} is not the recipe that was given; resume with --resume --out alone.")
        self.path.mkdir(parents=True, exist_ok=True)
        files.replace(written, to_yaml(recipe).encode())

    def write_card(self, card: dict[str, Any]) -> None:
        """The run card for programs (JSON) and for people (Markdown, with its curves beside it)."""
        files.replace(self.card, json.dumps(card, indent=1).encode())
        files.replace(self.path / "curves.svg", curves(card["history"]).encode())
        files.replace(self.path / "card.md", markdown(card).encode())
