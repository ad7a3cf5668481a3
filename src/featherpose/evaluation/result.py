"""The result of evaluating a model on a labeled data set, for any protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from featherpose.records import Counts

if TYPE_CHECKING:
    from featherpose.evaluation.diagnosis import Diagnosis


class Scores(Protocol):
    """Fractions, 0 to 1, by name."""

    def to_dict(self) -> dict[str, float | None]:
        """The scores by name; None where there is nothing to score."""
        ...


S = TypeVar("S", bound=Scores)


@dataclass(frozen=True)
class ByImage(Generic[S]):
    """What was found in I images, scored for any draw of them."""

    num_images: int
    """I, with those in which nothing was found or that could not be used."""
    scores: Callable[[NDArray[np.int64]], S]
    """I indices of images, one of them as often as it is drawn -> their scores."""


@dataclass(frozen=True)
class Evaluation(Generic[S]):
    """Scores (fractions, 0 to 1), every person's keypoints in image pixels, and facts about the run."""

    scores: S
    results: list[dict[str, Any]]
    num_images: int  # images processed
    num_instances: int  # boxes processed
    seconds: float  # reading the images and inference
    broken: tuple[str, ...] = ()  # one line per image that could not be used; its persons count as missed
    warnings: tuple[str, ...] = ()
    counts: tuple[Counts, ...] = ()
    """Of the records of the data set, and of the boxes that were given."""
    gt_scores: S | None = None
    """Where the boxes were detected, the scores of the same model in ground-truth boxes."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By score, the 95 % confidence interval over images; empty where it was not asked for."""
    by_image: ByImage[S] | None = None
    """For intervals and paired comparisons; None where the protocol has none."""
    diagnose: Callable[[], Diagnosis] | None = None
    """Computes the diagnosis; None where the protocol has none."""
    diagnosis: Diagnosis | None = None
    """None where it was not asked for."""
    submission: str = ""
    """File for the server of a test set whose annotations are withheld; empty for others."""

    def difference(self) -> dict[str, float | None]:
        """Scores minus `gt_scores`, by name; empty without these."""
        reference = {} if self.gt_scores is None else self.gt_scores.to_dict()
        scores = self.scores.to_dict()
        return {name: subtract(scores[name], value) for name, value in reference.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the results, for JSON; scores are fractions, null where there was no person to find."""
        facts: dict[str, Any] = {
            **{"scores": self.scores.to_dict(), "num_images": self.num_images, "num_instances": self.num_instances},
            **{"seconds": round(self.seconds, 2), "broken": list(self.broken), "warnings": list(self.warnings)},
            "counts": [counts.to_dict() for counts in self.counts],
        }
        if self.submission:
            facts["submission"] = self.submission
        if self.gt_scores is not None:
            facts |= {"gt_scores": self.gt_scores.to_dict(), "difference": self.difference()}
        if self.diagnosis is not None:
            facts["diagnosis"] = self.diagnosis.to_dict()
        if self.intervals:
            facts["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        return facts


def subtract(score: float | None, reference: float | None) -> float | None:
    """Score - reference; None where one of them is None."""
    return None if score is None or reference is None else score - reference
