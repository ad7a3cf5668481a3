"""Two models on one data set: the columns of the paper's tables I (COCO) and II (MPII), and the paired difference.

The difference is that of scores on the same images, with its 95 % confidence interval: images that are hard for both
models do not widen it, so it shows smaller differences than two intervals beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from featherpose import zoo
from featherpose.evaluation.intervals import Difference, paired_intervals
from featherpose.evaluation.result import Evaluation
from featherpose.manifest import PoseManifest
from featherpose.size import Size

COCO_METRIC = "AP"
MPII_METRIC = "PCKh@0.5"
LSP_METRIC = "PCK@0.2"
FIELDS = {COCO_METRIC: "ap", MPII_METRIC: "mean", LSP_METRIC: "pck"}
"""Metric of published scores -> field of ours."""
METRICS = {"mpii": MPII_METRIC, "lsp": LSP_METRIC}
"""Name of a data set -> its metric; of all others `COCO_METRIC`."""


Count = Callable[[PoseManifest], tuple[int, int] | None]
"""Manifest -> parameters and multiply-accumulates of its network; None where they cannot be counted."""


@dataclass(frozen=True)
class Row:
    """A row of the table; None where a column is not known."""

    method: str
    """Name of the model; of a published score, where it was published."""
    backbone: str | None = None
    pretrained: bool | None = None
    """Whether training began with weights of another training, such as ImageNet's."""
    input_size: str | None = None
    """Height x width."""
    parameters: int | None = None
    gflops: float | None = None
    """10^9 multiply-accumulates, as the paper counts, at this input size."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Fractions, 0 to 1."""
    published: str | None = None
    """Of a published score, its protocol and source; None for what was computed here."""


@dataclass(frozen=True)
class Comparison:
    """Two models on one data set."""

    metric: str
    """AP or PCKh@0.5."""
    first: Row
    second: Row
    differences: Mapping[str, Difference]
    """By score, second - first with its interval, fractions."""
    published: tuple[Row, ...] = ()
    """Scores of other networks on other images."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "models": [asdict(self.first), asdict(self.second)],
            "differences": {name: difference._asdict() for name, difference in self.differences.items()},
            "published": [asdict(row) for row in self.published],
        }


def compare(
    metric: str,
    first: tuple[str, PoseManifest | None, Evaluation[Any]],
    second: tuple[str, PoseManifest | None, Evaluation[Any]],
    *,
    published: bool = False,
    count: Count | None = None,
) -> Comparison:
    """Metric, and of two models name, manifest (None for a file of results) and evaluation -> Comparison.

    `published` adds the published scores of all networks. `count` counts networks that the table of networks has not.
    """
    rows = [_row(name, manifest, evaluation, count) for name, manifest, evaluation in (first, second)]
    return Comparison(
        metric,
        *rows,
        differences=paired_intervals(first[2], second[2]),
        published=tuple(published_rows(metric)) if published else (),
    )


def _row(name: str, manifest: PoseManifest | None, evaluation: Evaluation[Any], count: Count | None) -> Row:
    scores = evaluation.scores.to_dict()
    if manifest is None:
        return Row(name, scores=scores)
    entries = {entry.name: entry for entry in zoo.read()}
    # Options change the counts, and the table has them for the plain network alone.
    entry = None if manifest.options else entries.get(manifest.network)
    parameters, gflops = None, None
    if entry is not None:
        parameters = entry.parameters
        gflops = _gflops(entry, manifest.input_size)
    elif count is not None and (counts := count(manifest)) is not None:
        parameters = counts[0]
        gflops = counts[1] / 1e9
    return Row(
        method=name,
        backbone=manifest.network,
        pretrained=bool(manifest.training.get("pretrained") or manifest.recipe.get("pretrained")),
        input_size=str(manifest.input_size),
        parameters=parameters,
        gflops=gflops,
        scores=scores,
    )


def _gflops(entry: zoo.Entry, size: Size) -> float:
    """Counted at the default input; in proportion to the area at another."""
    counted = Size.of(entry.input)
    return entry.macs / 1e9 * (size.height * size.width) / (counted.height * counted.width)


def published_rows(metric: str) -> list[Row]:
    """Metric -> the published scores of the networks in it, in the order of the table of networks."""
    return [
        Row(
            method=score.source,
            backbone=entry.name,
            input_size=score.input,
            parameters=entry.parameters,
            gflops=_gflops(entry, Size.of(score.input)) if score.input else None,
            scores={FIELDS[metric]: score.percent / 100},
            published=str(score),
        )
        for entry in zoo.read()
        for score in entry.published
        if score.metric == metric
    ]
