"""Table of the networks: parameters, cost, published scores. Read from `table.json`, without torch.

`tools/make_table.py` writes the table; its tests count again.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Paper:
    """The paper that introduced a network; None where a field is not known."""

    title: str
    authors: str | None = None
    year: int | None = None
    link: str | None = None


@dataclass(frozen=True)
class Published:
    """A published score in percent, and its evaluation protocol."""

    percent: float
    metric: str
    """AP or PCKh@0.5."""
    data: str
    boxes: str
    flip: bool | None
    """Whether the flip test was used; None where that is not stated."""
    input: str | None
    """Height x width in pixels, as "256x192"."""
    source: str
    """Where it was published."""

    def __str__(self) -> str:
        flip = {True: "flip test", False: "no flip test", None: "flip test not stated"}[self.flip]
        parts = [self.data, self.input, f"boxes {self.boxes}", flip]
        protocol = ", ".join(part for part in parts if part)
        return f"{self.metric} {self.percent} ({protocol}; {self.source})"


@dataclass(frozen=True)
class Entry:
    """A network; the counts are for 17 keypoints (a detector has none) and the default input."""

    name: str
    task: str
    """pose, or detector: finds the people, in an image of any size."""
    weights: bool
    """Whether trained weights are shipped with the package."""
    parameters: int
    macs: int
    """Multiply-accumulates per image as computed by the published code, or by the formula as it is written."""
    macs_run: int
    """Multiply-accumulates per image as exported: without repeated and redundant operations, with equal output."""
    input: str
    """Default input, height x width in pixels."""
    latency_ms: float | None
    """Latency of one image on one thread, where it was measured (`benchmarks/latency.py`)."""
    latency_on: str | None
    """The processor on which the latency was measured."""
    paper: Paper
    published: tuple[Published, ...]
    note: str
    """Differences between published code, counts and papers, and what else matters for a comparison."""


def read(shipped: Collection[str] = ()) -> list[Entry]:
    """Names of the networks with shipped weights -> all networks, in the order of the table."""
    text = (resources.files(__name__) / "table.json").read_text(encoding="utf-8")
    return [_entry(row, row["name"] in shipped) for row in json.loads(text)]


def find(word: str, entries: Collection[Entry]) -> list[Entry]:
    """The entries with `word` in their name, or in the title or authors of their paper; case is ignored."""
    wanted = word.lower()
    return [entry for entry in entries if any(wanted in text.lower() for text in _searched_texts(entry))]


def _searched_texts(entry: Entry) -> tuple[str, str, str]:
    return entry.name, entry.paper.title, entry.paper.authors or ""


def _entry(row: dict[str, Any], has_weights: bool) -> Entry:
    plain = {key: value for key, value in row.items() if key not in ("paper", "published")}
    published = tuple(Published(**score) for score in row["published"])
    return Entry(**plain, weights=has_weights, paper=Paper(**row["paper"]), published=published)
