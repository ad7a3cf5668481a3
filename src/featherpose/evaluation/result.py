"""The result of evaluating a model on a labeled data set, for any protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from featherpose.records import Counts


class Scores(Protocol):
    """Fractions, 0 to 1, by name."""

    def to_dict(self) -> dict[str, float | None]:
        """The scores by name; None where there is nothing to score."""
        ...


S = TypeVar("S", bound=Scores)


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
    submission: str = ""
    """File for the server of a test set whose annotations are withheld; empty for others."""

    def difference(self) -> dict[str, float | None]:
        """Scores minus `gt_scores`, by name; empty without these."""
        reference = {} if self.gt_scores is None else self.gt_scores.to_dict()
        scores = self.scores.to_dict()
        return {name: _difference(scores[name], value) for name, value in reference.items()}

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
        return facts


def _difference(score: float | None, reference: float | None) -> float | None:
    return None if score is None or reference is None else score - reference
