"""95 % confidence intervals of a score by bootstrap (Efron 1979).

The images, or instances, of a data set are resampled with replacement, as many as there are, and scored again; the
interval covers the middle 95 % of these scores. It does not cover the variation between training runs (seeds).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.evaluation.coco import keypoint_ap

ROUNDS = 200
LEVELS = (2.5, 97.5)
"""Percentiles of the interval's lower and upper bound."""


def bootstrap(score: Callable[[NDArray[np.int64]], float], count: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """A function from row indices to a score, and the number of rows -> its interval; the same draws each time."""
    rng = np.random.default_rng(0)
    scores = [score(rng.integers(0, count, count)) for _ in range(rounds)]
    low, high = np.nanpercentile(scores, LEVELS)
    return float(low), float(high)


def ap_interval(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float], rounds: int = ROUNDS
) -> tuple[float, float]:
    """COCO annotations and keypoint results, as in `keypoint_ap` -> the interval of AP over images, 0 to 1."""
    persons: defaultdict[Any, list[Any]] = defaultdict(list)
    found: defaultdict[Any, list[Any]] = defaultdict(list)
    for person in truth["annotations"]:
        persons[person["image_id"]].append(person)
    for pose in results:
        found[pose["image_id"]].append(pose)
    images: list[Any] = truth["images"]

    def score(rows: NDArray[np.int64]) -> float:
        """AP of the drawn images; an image drawn twice counts as two images."""
        drawn = [(number, images[row]) for number, row in enumerate(rows, 1)]
        annotations = [{**person, "image_id": number} for number, image in drawn for person in persons[image["id"]]]
        resampled = {
            "images": [{**image, "id": number} for number, image in drawn],
            "annotations": [{**person, "id": number} for number, person in enumerate(annotations, 1)],
            "categories": truth["categories"],
        }
        poses = [{**pose, "image_id": number} for number, image in drawn for pose in found[image["id"]]]
        return keypoint_ap(resampled, poses, sigmas).ap

    return bootstrap(score, len(images), rounds)
