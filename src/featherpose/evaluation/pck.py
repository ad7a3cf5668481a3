"""Metrics for one prediction per labeled person: PCK, and OKS on a validation set of crops. numpy only.

Arrays: predicted and keypoints (N, K, 2) in the same pixels, visible (N, K) where above 0 means labeled. Scores are
fractions, 0 to 1; nan where nothing is labeled.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import DataError
from featherpose.oks import oks

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten OKS thresholds."""


class Pck(NamedTuple):
    """Fraction of labeled keypoints within the threshold."""

    per_keypoint: NDArray[np.float64]  # (K,)
    mean: float  # over all labeled keypoints, so a keypoint that is labeled more often weighs more


class CropScores(NamedTuple):
    """Scores of N persons with exactly one prediction each."""

    oks: float  # mean over persons
    oks_accuracy: float  # fraction of persons at or above an OKS threshold, mean over the thresholds


def pck(
    predicted: ArrayLike,
    keypoints: ArrayLike,
    visible: ArrayLike,
    reference: ArrayLike,
    threshold: float,
    in_mean: ArrayLike | None = None,
) -> Pck:
    """Predicted keypoints and truth (N, K, 2), visible (N, K), reference lengths (N,) in px -> Pck.

    A keypoint is correct when its error is at most `threshold` x the person's reference length (Yang and Ramanan 2013;
    with MPII's head size as the reference it is PCKh, see `pckh`). `in_mean` (K,): the keypoints included in the mean.
    """
    labeled = np.asarray(visible) > 0
    correct = (normalized_errors(predicted, keypoints, reference) <= threshold) & labeled
    counted = np.ones(labeled.shape[1], bool) if in_mean is None else np.asarray(in_mean, bool)
    with np.errstate(invalid="ignore"):  # 0 of 0 is nan: this keypoint is never labeled
        mean = np.float64(correct[:, counted].sum()) / labeled[:, counted].sum()
        return Pck(correct.sum(axis=0) / labeled.sum(axis=0), float(mean))


def normalized_errors(predicted: ArrayLike, keypoints: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Predicted keypoints and truth (N, K, 2), reference lengths (N,) -> distance / reference (N, K), float64."""
    points, truth = _same_shape(predicted, keypoints)
    return np.linalg.norm(points - truth, axis=-1) / _positive(reference, "Reference length")[:, None]


def validation_oks(
    predicted: ArrayLike, keypoints: ArrayLike, visible: ArrayLike, areas: ArrayLike, sigmas: ArrayLike
) -> CropScores:
    """Predicted keypoints and truth (N, K, 2), visible (N, K), areas (N,) in px², sigmas (K,) -> CropScores.

    For selecting weights on crops. Each person has exactly one prediction, so recall equals precision: `oks_accuracy`
    is the fraction of persons found at OKS 0.50, 0.55, ... 0.95, averaged. It is not COCO AP: scores are not ranked,
    and no person can be missed or found twice. Persons without a labeled keypoint are left out.
    """
    similarity = oks_of_persons(predicted, keypoints, visible, areas, sigmas)
    if not similarity.size:
        return CropScores(np.nan, np.nan)
    return CropScores(float(similarity.mean()), float(oks_accuracies(similarity).mean()))


def oks_of_persons(
    predicted: ArrayLike, keypoints: ArrayLike, visible: ArrayLike, areas: ArrayLike, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """As for `validation_oks` -> OKS of each person with a labeled keypoint, in order."""
    points, truth = _same_shape(predicted, keypoints)
    return oks(points, truth, _positive(areas, "Area"), sigmas, visible)[(np.asarray(visible) > 0).any(axis=1)]


def oks_accuracies(similarity: ArrayLike) -> NDArray[np.float64]:
    """OKS (...,) -> the share of the ten thresholds that it reaches, same shape."""
    return (np.asarray(similarity)[..., None] >= THRESHOLDS).mean(axis=-1)


def _same_shape(predicted: ArrayLike, keypoints: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, truth = np.asarray(predicted, np.float64), np.asarray(keypoints, np.float64)
    if points.shape != truth.shape:
        raise DataError(f"Predicted keypoints have shape {points.shape}, labeled keypoints {truth.shape}.")
    return points, truth


def _positive(lengths: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(lengths, np.float64)
    if not (values > 0).all():
        first = int(np.argmin(values > 0))
        raise DataError(f"{name} of person {first} is {values[first]:g}; wanted a positive number of pixels.")
    return values
