"""How far a score could be off because other photos might have been drawn: bootstrap intervals (Efron 1979).

The photos, or people, of a data set are drawn anew with replacement, as many as there are, and scored again; the
interval holds the middle 95 % of the scores. It says nothing of how training might have come out with another seed.
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
"""Percentiles that an interval goes from and to."""


def bootstrap(score: Callable[[NDArray[np.int64]], float], count: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """A score of the rows that it is given, and how many rows there are -> its interval; the same draws each time."""
    rng = np.random.default_rng(0)
    scores = [score(rng.integers(0, count, count)) for _ in range(rounds)]
    low, high = np.nanpercentile(scores, LEVELS)
    return float(low), float(high)


def ap_interval(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float], rounds: int = ROUNDS
) -> tuple[float, float]:
    """COCO labels and keypoint results, as `keypoint_ap` takes them -> the interval of AP over its photos, 0 to 1."""
    people: defaultdict[Any, list[Any]] = defaultdict(list)
    found: defaultdict[Any, list[Any]] = defaultdict(list)
    for person in truth["annotations"]:
        people[person["image_id"]].append(person)
    for pose in results:
        found[pose["image_id"]].append(pose)
    images: list[Any] = truth["images"]

    def score(rows: NDArray[np.int64]) -> float:
        """A photo that is drawn twice is two photos."""
        drawn = [(number, images[row]) for number, row in enumerate(rows, 1)]
        annotations = [{**person, "image_id": number} for number, image in drawn for person in people[image["id"]]]
        again = {
            "images": [{**image, "id": number} for number, image in drawn],
            "annotations": [{**person, "id": number} for number, person in enumerate(annotations, 1)],
            "categories": truth["categories"],
        }
        poses = [{**pose, "image_id": number} for number, image in drawn for pose in found[image["id"]]]
        return keypoint_ap(again, poses, sigmas).ap

    return bootstrap(score, len(images), rounds)
