"""What comes of judging a model on a labelled data set, whatever the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from featherpose.poses import Poses

Predict = Callable[[NDArray[np.uint8], NDArray[np.float32]], Poses]
"""RGB uint8 (H, W, 3) and boxes (N, 4) left, top, right, bottom -> Poses of N people in the same order."""


class Scores(Protocol):
    """Fractions, 0 to 1, by name."""

    def to_dict(self) -> dict[str, float | None]:
        """None where there is nothing to say."""
        ...


S = TypeVar("S", bound=Scores)


@dataclass(frozen=True)
class Evaluation(Generic[S]):
    """Scores (fractions, 0 to 1), everyone's joints in pixels of the photo, and how they came about."""

    scores: S
    results: list[dict[str, Any]]
    num_images: int  # photos that were posed
    num_instances: int  # boxes that were posed
    seconds: float  # reading the photos and posing the people
    broken: tuple[str, ...] = ()  # one line for each photo that could not be used; its people count as missed
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the results, for JSON; scores are fractions, null where there was nobody to find."""
        return {
            **{"scores": self.scores.to_dict(), "num_images": self.num_images, "num_instances": self.num_instances},
            **{"seconds": round(self.seconds, 2), "broken": list(self.broken), "warnings": list(self.warnings)},
        }
