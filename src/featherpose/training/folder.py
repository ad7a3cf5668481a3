"""The folder of a run: recipe.yaml, state.safetensors, best and last weights, log.jsonl, card.json and card.md."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.charts import curves
from featherpose.errors import RecipeError
from featherpose.recipes.reading import load
from featherpose.recipes.recipe import Recipe, to_yaml
from featherpose.training.card import markdown


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files; writes its text files."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything needed to resume."""
        return self.path / "state.safetensors"

    @property
    def best(self) -> Path:
        """EMA weights with the best validation score at the largest input size reached, where scores select them."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """EMA weights at the end of the run."""
        return self.path / "last.safetensors"

    @property
    def card(self) -> Path:
        """The run card: settings, data and results."""
        return self.path / "card.json"

    def prepare(self, recipe: Recipe, resume: bool) -> None:
        """Create the folder and write recipe.yaml; RecipeError if it already has a run, or one of another recipe."""
        written = self.path / "recipe.yaml"
        if self.state.exists() and not resume:
            raise RecipeError(
                f"{self.path} already contains a run; add --resume to continue it, or choose another --out."
            )
        if resume and written.exists() and load(written).digest != recipe.digest:
            raise RecipeError(f"{written} differs from the given recipe; to resume, pass only --resume and --out.")
        files.make_folder(self.path)
        files.replace(written, to_yaml(recipe).encode("utf-8", "backslashreplace"))

    @contextlib.contextmanager
    def in_use(self) -> Generator[None]:
        """While this process writes to the folder; RecipeError where another one does."""
        try:
            with files.locked(self.path / ".lock", wait=False):
                yield
        except BlockingIOError:
            raise RecipeError(
                f"Another process is training in {self.path}; wait for it or stop it, or choose another --out."
            ) from None

    def write_card(self, card: dict[str, Any]) -> None:
        """Write the run card as JSON and as Markdown, with curves.svg."""
        files.replace(self.card, json.dumps(card, indent=1).encode())
        files.replace(self.path / "curves.svg", curves(card["history"]).encode())
        files.replace(self.path / "card.md", markdown(card).encode("utf-8", "backslashreplace"))
