"""95 % confidence intervals of scores, and of the differences of two models, by bootstrap (Efron 1979).

The images, or instances, of a data set are resampled with replacement, as many as there are, and scored again; the
interval covers the middle 95 % of these scores. It covers the variation between training runs only where runs are
resampled too (`paired_difference`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.evaluation.result import ByImage, Evaluation, subtract

ROUNDS = 200
LEVELS = (2.5, 97.5)
"""Percentiles of the interval's lower and upper bound."""


def bootstrap(score: Callable[[NDArray[np.int64]], float], count: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """A function from row indices to a score, and the number of rows -> its interval; the same draws each time."""
    return _intervals([{"": score(rows)} for rows in _draws(count, rounds)])[""]


E = TypeVar("E", bound="Evaluation[Any]")


def with_intervals(evaluation: E, rounds: int = ROUNDS) -> E:
    """Evaluation -> the same with the interval over images of each score."""
    by_image = _by_image(evaluation)
    scores = [by_image.scores(rows).to_dict() for rows in _draws(by_image.num_images, rounds)]
    return replace(evaluation, intervals=_intervals(scores))


def paired_intervals(first: Evaluation[Any], second: Evaluation[Any], rounds: int = ROUNDS) -> dict[str, Difference]:
    """Evaluations of two models on the same images -> by score, second - first and its interval, fractions.

    Both are scored on the same draws: images that are hard for both do not widen the interval. A score that one of them
    lacks is left out. InputError where the numbers of images differ.
    """
    one = _by_image(first)
    other = _by_image(second)
    if one.num_images != other.num_images:
        raise InputError(
            f"One model was evaluated on {one.num_images} images, the other on {other.num_images}; compare two on the"
            " same data."
        )
    whole = _difference(first.scores.to_dict(), second.scores.to_dict())
    drawn = [
        _difference(one.scores(rows).to_dict(), other.scores(rows).to_dict()) for rows in _draws(one.num_images, rounds)
    ]
    intervals = _intervals(drawn)
    return {name: Difference(mean, *intervals[name]) for name, mean in whole.items() if mean is not None}


def _by_image(evaluation: Evaluation[Any]) -> ByImage[Any]:
    if evaluation.by_image is None:
        raise InputError("Confidence intervals are not known for this kind of data set; leave out intervals.")
    return evaluation.by_image


def _draws(count: int, rounds: int) -> Iterator[NDArray[np.int64]]:
    """As many indices of `count` rows, drawn with replacement, in every round; the same each time."""
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        yield rng.integers(0, count, count)


def _difference(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: subtract(second.get(name), value) for name, value in first.items()}


def _intervals(
    rounds: list[Mapping[str, float | None]] | list[dict[str, float | None]],
) -> dict[str, tuple[float, float]]:
    """Scores by name in each round -> intervals, without the scores that no round has."""
    found: dict[str, tuple[float, float]] = {}
    for name in rounds[0]:
        values = np.array([scores[name] for scores in rounds], np.float64)
        if not np.isnan(values).all():
            low, high = np.nanpercentile(values, LEVELS)
            found[name] = (float(low), float(high))
    return found


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
