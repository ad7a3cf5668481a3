"""The diagnosis of an evaluation: where keypoints fall, which kinds of error they have and cost, what scores mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.data.mpii import Mpii
from featherpose.errors import InputError
from featherpose.evaluation.anatomy import NEAR, Breakdown, Confusion, breakdown, confusion, oks_radii
from featherpose.evaluation.calibration import Calibration, calibration
from featherpose.evaluation.pairs import Pairs, match_persons
from featherpose.evaluation.result import Evaluation
from featherpose.records import Labels
from featherpose.skeleton import MPII16

PCKH_RADIUS = 0.5
"""Part of the head size."""


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


def diagnose_mpii(samples: Mpii, results: Sequence[Mapping[str, Any]]) -> Diagnosis:
    """MPII's persons and the results of `evaluate_mpii`, in the same order -> Diagnosis by PCKh at 0.5.

    Keypoints that no result has are those that the model lacks: they do not count.
    """
    nowhere = (np.inf, np.inf)
    predicted = np.array([[keypoint or nowhere for keypoint in result["keypoints"]] for result in results], np.float64)
    known = np.isfinite(predicted[..., 0])
    images = np.unique(samples.image_names, return_inverse=True)[1]
    order = np.argsort(images, kind="stable")
    pairs = Pairs(
        keypoints=samples.keypoints[order],
        visibility=samples.visible[order] * known.any(axis=0),
        predicted=predicted[order],
        scores=np.full(known.shape, np.nan),
        scales=samples.head_sizes[order],
        images=images[order],
        results=np.where(known.any(axis=1), np.arange(len(known)), -1)[order],
    )
    radii = np.full(MPII16.num_keypoints, PCKH_RADIUS)
    return Diagnosis(
        num_persons=len(samples),
        num_missed=int((~pairs.found).sum()),
        confusion=confusion(pairs, radii, MPII16.keypoint_names, f"PCKh {PCKH_RADIUS:g}"),
    )


def calibration_of(pairs: Pairs, radii: ArrayLike) -> Calibration:
    """Persons with their poses, and radii (K,) relative to their scales -> calibration of the scores of their visible
    keypoints. A keypoint is right within the radius of its own place."""
    counted = (pairs.visibility == 2) & pairs.found[:, None]
    return calibration(pairs.scores[counted], _right(pairs, np.asarray(radii, np.float64))[counted])


def _right(pairs: Pairs, radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    errors = np.linalg.norm(pairs.predicted - pairs.keypoints, axis=-1)
    return errors <= radii * pairs.scales[:, None]
