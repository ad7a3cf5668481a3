"""The networks in figures: what each costs, and what was published of it. Read from `table.json`, without torch.

The table is written by `tools/make_table.py`; its tests count again.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Paper:
    """Who described a network first; None where that is not known."""

    title: str
    authors: str | None = None
    year: int | None = None
    link: str | None = None


@dataclass(frozen=True)
class Published:
    """A score that somebody printed, in percent, and how it was taken."""

    percent: float
    metric: str
    """AP or PCKh@0.5."""
    data: str
    boxes: str
    flip: bool | None
    """Averaged with the mirrored picture; None where that is not stated."""
    input: str | None
    """Height x width in pixels, as "256x192"."""
    source: str
    """Who printed it."""

    def __str__(self) -> str:
        flip = {True: "flip test", False: "no flip", None: "flip not stated"}[self.flip]
        how = [self.data, self.input, f"boxes {self.boxes}", flip]
        return f"{self.metric} {self.percent} ({', '.join(part for part in how if part)}; {self.source})"


@dataclass(frozen=True)
class Entry:
    """A network by its name; the counts are for 17 keypoints and the default input."""

    name: str
    weights: bool
    """True where trained weights lie in the package."""
    parameters: int
    macs: int
    """Multiply-accumulates of one picture as the published code, or the formula as it is written, computes it."""
    macs_run: int
    """The same as featherpose exports and runs it: repeated and superfluous work left out, the outcome equal."""
    input: str
    """The default, height x width in pixels."""
    latency_ms: float | None
    """Of one picture on one thread, where it was measured (`benchmarks/latency.py`)."""
    latency_on: str | None
    """The processor that it was measured on."""
    paper: Paper
    published: tuple[Published, ...]
    note: str
    """Where published code, counts and papers differ; what else to know before comparing."""


def read(shipped: Collection[str] = ()) -> list[Entry]:
    """Names of the models that have weights -> every network, in the order of the table."""
    text = (resources.files(__name__) / "table.json").read_text(encoding="utf-8")
    return [_entry(row, row["name"] in shipped) for row in json.loads(text)]


def find(word: str, entries: Collection[Entry]) -> list[Entry]:
    """The entries with `word`, in either case, in their name, or in their paper's title or authors."""
    found = word.lower()
    return [
        entry
        for entry in entries
        if any(found in text.lower() for text in (entry.name, entry.paper.title, entry.paper.authors or ""))
    ]


def _entry(row: dict[str, Any], has_weights: bool) -> Entry:
    plain = {key: value for key, value in row.items() if key not in ("paper", "published")}
    published = tuple(Published(**score) for score in row["published"])
    return Entry(**plain, weights=has_weights, paper=Paper(**row["paper"]), published=published)
