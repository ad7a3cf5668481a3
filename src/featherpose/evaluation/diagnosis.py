"""The diagnosis of an evaluation: where keypoints fall, which kinds of error they have and cost, what scores mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.evaluation.anatomy import NEAR, Breakdown, Confusion, breakdown, confusion, oks_radii
from featherpose.evaluation.calibration import Calibration, calibration
from featherpose.evaluation.pairs import Pairs, match_persons
from featherpose.evaluation.persons import Found
from featherpose.evaluation.result import Evaluation
from featherpose.records import Labels
from featherpose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is wrong with the predicted keypoints of a labeled data set."""

    num_persons: int
    num_missed: int
    """Persons without a pose."""
    confusion: Confusion
    breakdown: Breakdown | None = None
    """None for metrics other than OKS."""
    calibration: Calibration | None = None
    """Of the visible keypoints of persons with a pose; None where the results contain no scores."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "num_persons": self.num_persons,
            "num_missed": self.num_missed,
            "confusion": self.confusion.to_dict(),
            "breakdown": self.breakdown and self.breakdown.to_dict(),
            "calibration": self.calibration and self.calibration.to_dict(),
        }


E = TypeVar("E", bound=Evaluation[Any])


def with_diagnosis(evaluation: E) -> E:
    """Evaluation -> the same with its diagnosis. InputError where the protocol has none."""
    if evaluation.diagnose is None:
        raise InputError("There is no diagnosis for this kind of data set; leave out diagnosis.")
    return replace(evaluation, diagnosis=evaluation.diagnose())


def diagnose_coco(labels: Labels, results: Sequence[Mapping[str, Any]]) -> Diagnosis:
    """Labels and COCO keypoint results -> Diagnosis by OKS."""
    pairs = match_persons(labels, results)
    radii = oks_radii(labels.skeleton.sigmas)
    return Diagnosis(
        num_persons=len(pairs.images),
        num_missed=int((~pairs.found).sum()),
        confusion=confusion(pairs, radii, labels.skeleton.keypoint_names, f"OKS {NEAR:g}"),
        breakdown=breakdown(labels, results, pairs),
        calibration=calibration_of(pairs, radii),
    )


def diagnose_persons(
    found: Found,
    keypoints: NDArray[np.float64],
    visible: NDArray[np.int64],
    scales: NDArray[np.float64],
    skeleton: Skeleton,
    radius: float,
    metric: str,
) -> Diagnosis:
    """What was found of N persons, their labels (N, K, 2) and (N, K), reference lengths (N,) in pixels, and the part of
    them within which a keypoint is right, by the metric of that name -> Diagnosis.

    Keypoints that the model lacks do not count.
    """
    order = np.concatenate(found.rows)
    images = np.repeat(np.arange(len(found.rows)), [len(rows) for rows in found.rows])
    predicted = found.keypoints[order]
    is_found = np.isfinite(predicted[..., 0]).any(axis=1)
    pairs = Pairs(
        keypoints=keypoints[order],
        visibility=visible[order] * found.known,
        predicted=predicted,
        scores=np.full(predicted.shape[:2], np.nan),
        scales=scales[order],
        images=images,
        results=np.where(is_found, order, -1),
    )
    radii = np.full(skeleton.num_keypoints, radius)
    return Diagnosis(
        num_persons=len(order),
        num_missed=int((~pairs.found).sum()),
        confusion=confusion(pairs, radii, skeleton.keypoint_names, f"{metric} {radius:g}"),
    )


def calibration_of(pairs: Pairs, radii: ArrayLike) -> Calibration:
    """Persons with their poses, and radii (K,) relative to their scales -> calibration of the scores of their visible
    keypoints. A keypoint is right within the radius of its own place."""
    counted = (pairs.visibility == 2) & pairs.found[:, None]
    return calibration(pairs.scores[counted], _right(pairs, np.asarray(radii, np.float64))[counted])


def _right(pairs: Pairs, radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    errors = np.linalg.norm(pairs.predicted - pairs.keypoints, axis=-1)
    return errors <= radii * pairs.scales[:, None]
