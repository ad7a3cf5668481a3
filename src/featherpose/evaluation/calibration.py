"""What keypoint scores mean: how often keypoints of a score are right (Guo et al., On Calibration of Modern Neural
Networks, 2017).

Scores are fractions, 0 to 1, and rank keypoints; they are not probabilities unless the reliability curve is the
diagonal. Nothing here changes a score.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BINS = 10
"""Of equal width, from 0 to 1."""
SHOWN = 0.3
"""Default score threshold of drawn keypoints (`featherpose predict --score-threshold`)."""


@dataclass(frozen=True)
class Bin:
    """Keypoints with a score in a range; the last one contains 1."""

    low: float
    high: float
    number: int
    score: float
    """Mean of their scores."""
    right: float
    """Fraction of them that is right."""


@dataclass(frozen=True)
class Calibration:
    """Fractions, 0 to 1; nan where there is no keypoint."""

    number: int
    """Keypoints."""
    bins: tuple[Bin, ...]
    """The reliability curve, without empty bins."""
    expected_error: float
    """Expected calibration error: difference of mean score and fraction right in a bin, mean over all keypoints."""
    threshold: float
    shown: float
    """Fraction of the keypoints with a score of at least `threshold`."""
    right: float
    """Fraction of these that is right."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; null in place of nan."""
        unknown = {name: None for name, value in vars(self).items() if isinstance(value, float) and not isfinite(value)}
        return {**asdict(self), **unknown}

    def sentence(self) -> str:
        """The fraction that is right at the threshold, for the user."""
        return (
            f"{100 * self.shown:.0f} % of the visible keypoints have a score of at least {self.threshold:g}, and"
            f" {100 * self.right:.0f} % of these are right"
        )


def calibration(scores: ArrayLike, right: ArrayLike, threshold: float = SHOWN) -> Calibration:
    """Scores (N,) of keypoints and whether each is right (N,) -> Calibration. Scores beyond 0 and 1 count as these."""
    values = np.clip(np.asarray(scores, np.float64), 0, 1)
    hits = np.asarray(right, bool)
    bin_of = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    bins = tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            number=int(inside.sum()),
            score=float(values[inside].mean()),
            right=float(hits[inside].mean()),
        )
        for number in np.unique(bin_of)
        for inside in (bin_of == number,)
    )
    shown = values >= threshold
    return Calibration(
        number=len(values),
        bins=bins,
        expected_error=sum(b.number * abs(b.score - b.right) for b in bins) / len(values) if bins else float("nan"),
        threshold=threshold,
        shown=float(shown.mean()) if bins else float("nan"),
        right=float(hits[shown].mean()) if shown.any() else float("nan"),
    )
