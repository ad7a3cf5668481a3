"""95 % confidence intervals of a score, and of the difference of two, by bootstrap (Efron 1979).

The images, or instances, of a data set are resampled with replacement, as many as there are, and scored again; the
interval covers the middle 95 % of these scores. It covers the variation between training runs only where runs are
resampled too (`paired_difference`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.formats.values import id_key
from featherpose.records import Labels, PersonRecord

ROUNDS = 200
Ap = Callable[[Labels, Sequence[Mapping[str, Any]]], float]
LEVELS = (2.5, 97.5)
"""Percentiles of the interval's lower and upper bound."""


def bootstrap(score: Callable[[NDArray[np.int64]], float], count: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """A function from row indices to a score, and the number of rows -> its interval; the same draws each time."""
    rng = np.random.default_rng(0)
    scores = [score(rng.integers(0, count, count)) for _ in range(rounds)]
    low, high = np.nanpercentile(scores, LEVELS)
    return float(low), float(high)


class Difference(NamedTuple):
    """Mean difference of two scores, and its interval."""

    mean: float
    low: float
    high: float


def paired_difference(first: ArrayLike, second: ArrayLike, rounds: int = 2000) -> Difference:
    """Scores (R, N) of two methods on the same N persons, in R pairs of runs with equal seeds -> second - first.

    Persons and pairs of runs are both resampled: what is the same for both methods, a hard person or a lucky seed, does
    not widen the interval. With one pair, the variation between runs is not covered. InputError for unequal shapes.
    """
    difference = np.asarray(second, np.float64) - _same_shape(first, second)  # (R, N)
    runs, persons = difference.shape
    rng = np.random.default_rng(0)
    means = np.empty(rounds)
    for round_number in range(rounds):
        # How often each run and each person is drawn.
        drawn_runs = np.bincount(rng.integers(0, runs, runs), minlength=runs)
        drawn_persons = np.bincount(rng.integers(0, persons, persons), minlength=persons)
        means[round_number] = drawn_runs @ difference @ drawn_persons / difference.size
    low, high = np.percentile(means, LEVELS)
    return Difference(float(difference.mean()), float(low), float(high))


def _same_shape(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(first, np.float64)
    if scores.ndim != 2 or scores.shape != np.shape(second) or not scores.size:
        raise InputError(f"Scores of shapes {scores.shape} and {np.shape(second)}, wanted two equal (runs, persons).")
    return scores


def ap_interval(
    labels: Labels, results: Sequence[Mapping[str, Any]], ap: Ap, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Labels, COCO results, and a function from both to AP -> the interval of AP over images, 0 to 1."""
    persons: defaultdict[int, list[PersonRecord]] = defaultdict(list)
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for person in labels.persons:
        persons[person.image].append(person)
    for pose in results:
        found[id_key(pose["image_id"])].append(pose)

    def score(rows: NDArray[np.int64]) -> float:
        """AP of the drawn images; an image drawn twice counts as two images."""
        drawn = [(number, labels.images[row]) for number, row in enumerate(rows)]
        resampled = replace(
            labels,
            images=tuple(replace(image, id=number) for number, image in drawn),
            persons=tuple(
                replace(person, image=number) for number, row in enumerate(rows.tolist()) for person in persons[row]
            ),
        )
        poses = [{**pose, "image_id": number} for number, image in drawn for pose in found[id_key(image.id)]]
        return ap(resampled, poses)

    return bootstrap(score, len(labels.images), rounds)
