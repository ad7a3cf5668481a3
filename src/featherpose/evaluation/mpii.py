"""Evaluation on MPII's annotations: poses in the boxes given by center and scale, PCKh.

A model with MPII's keypoints gets the published mean (all keypoints except pelvis and thorax) and the mean over the
twelve keypoints of arms and legs. A model with another skeleton, such as COCO's, gets only the latter, over keypoints
of the same name. COCO places hips and shoulders differently from MPII, which costs such a model some points there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherpose.data.mpii import Mpii
from featherpose.evaluation.diagnosis import diagnose_persons
from featherpose.evaluation.pckh import pckh
from featherpose.evaluation.persons import LIMBS, or_none, predict_persons
from featherpose.evaluation.prediction import Predict
from featherpose.evaluation.result import ByImage, Evaluation
from featherpose.skeleton import MPII16, Skeleton

THRESHOLD = 0.5
"""Of the head size."""


@dataclass(frozen=True)
class MpiiScores:
    """PCKh as fractions, 0 to 1; None where the model lacks the keypoint or no person has it labeled."""

    parts: dict[str, float | None]
    """Head, shoulder, elbow, wrist, hip, knee, ankle at 0.5 of the head size."""
    mean: float | None
    """The published mean at 0.5; None for a model that lacks any of MPII's keypoints."""
    mean_at_01: float | None
    """The same at 0.1."""
    limbs: float | None
    """Mean over the labeled keypoints of `LIMBS` at 0.5."""

    def to_dict(self) -> dict[str, float | None]:
        """Flat, for JSON and tables."""
        return {**self.parts, "mean": self.mean, "mean_at_01": self.mean_at_01, "limbs": self.limbs}


def evaluate_mpii(
    samples: Mpii, predict: Predict, skeleton: Skeleton, progress: Callable[[int, int], None] | None = None
) -> Evaluation[MpiiScores]:
    """Annotated persons, a function from images and boxes to Poses, and its skeleton -> Evaluation.

    Results, per person: `image`, `keypoints` (16 x 2 in image pixels, None where missed or unknown to the model).
    `progress` is called with the number of images done and the total. An image that cannot be read is listed, and its
    persons count as missed.
    """
    found = predict_persons(
        samples.images, samples.image_names, samples.boxes_xyxy, MPII16, predict, skeleton, progress
    )

    def scores_of(images: NDArray[np.int64]) -> MpiiScores:
        return _scores(found.keypoints, samples, found.known, np.concatenate([found.rows[image] for image in images]))

    return Evaluation(
        scores=_scores(found.keypoints, samples, found.known, np.arange(len(samples))),
        results=found.to_results(samples.image_names),
        num_images=found.predictions.num_images,
        num_instances=found.num_instances,
        seconds=found.predictions.seconds,
        broken=found.predictions.broken,
        warnings=found.predictions.notes,
        counts=(samples.counts,),
        by_image=ByImage(len(found.rows), scores_of),
        diagnose=lambda: diagnose_persons(
            found, samples.keypoints, samples.visible, samples.head_sizes, MPII16, THRESHOLD, "PCKh"
        ),
    )


def _scores(
    keypoints: NDArray[np.float64], samples: Mpii, known: NDArray[np.bool_], rows: NDArray[np.int64]
) -> MpiiScores:
    """Keypoints (N, 16, 2), inf where missed, which of them the model predicts (16,), and rows -> their MpiiScores."""
    visible = samples.visible[rows] * known
    limbs = visible * np.isin(MPII16.keypoint_names, LIMBS)
    at_half, at_tenth, of_limbs = (
        pckh(keypoints[rows], samples.keypoints[rows], labeled, samples.head_sizes[rows], threshold)
        for labeled, threshold in ((visible, THRESHOLD), (visible, 0.1), (limbs, THRESHOLD))
    )
    whole = bool(known.all())
    return MpiiScores(
        parts={part: or_none(value) for part, value in at_half.parts.items()},
        mean=or_none(at_half.mean) if whole else None,
        mean_at_01=or_none(at_tenth.mean) if whole else None,
        limbs=or_none(of_limbs.mean),
    )
