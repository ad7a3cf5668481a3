"""Evaluation on MPII's annotations: poses in the boxes given by center and scale, PCKh.

A model with MPII's keypoints gets the published mean (all keypoints except pelvis and thorax) and the mean over the
twelve keypoints of arms and legs. A model with another skeleton, such as COCO's, gets only the latter, over keypoints
of the same name. COCO places hips and shoulders differently from MPII, which costs such a model some points there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherpose.data.mpii import Mpii
from featherpose.errors import DataError
from featherpose.evaluation.diagnosis import diagnose_mpii
from featherpose.evaluation.pckh import PARTS, pckh
from featherpose.evaluation.prediction import LabeledImage, Predict, predict_images
from featherpose.evaluation.result import ByImage, Evaluation
from featherpose.skeleton import MPII16, Skeleton

LIMBS = tuple(keypoint for part, keypoints in PARTS.items() if part != "head" for keypoint in keypoints)
"""Shoulders, elbows, wrists, hips, knees and ankles."""


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
    shared = [keypoint for keypoint in MPII16.keypoint_names if keypoint in skeleton.keypoint_names]
    if not set(LIMBS) <= set(shared):
        raise DataError(f"The model's skeleton {skeleton.name} lacks some of MPII's arm and leg keypoints.")
    columns = np.array([MPII16.keypoint_names.index(keypoint) for keypoint in shared])
    predicted_columns = [skeleton.keypoint_names.index(keypoint) for keypoint in shared]
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, image_name in enumerate(samples.image_names):
        rows[image_name].append(row)
    labeled = [LabeledImage(name, samples.boxes_xyxy[image_rows]) for name, image_rows in rows.items()]
    predictions = predict_images(samples.images, labeled, predict, skeleton, progress)
    keypoints = np.full((len(samples), MPII16.num_keypoints, 2), np.inf)  # missed
    instances = 0
    for image_rows, found in zip(rows.values(), predictions.poses, strict=True):
        if found is not None:
            instances += len(found)
            for row, person in zip(image_rows, found.keypoints, strict=True):
                keypoints[row, columns] = person[predicted_columns]
    results = [
        {"image": image_name, "keypoints": _plain(person)}
        for image_name, person in zip(samples.image_names, keypoints, strict=True)
    ]
    known = np.isin(np.arange(MPII16.num_keypoints), columns)
    rows_of_images = [np.array(image_rows) for image_rows in rows.values()]

    def scores_of(images: NDArray[np.int64]) -> MpiiScores:
        return _scores(keypoints, samples, known, np.concatenate([rows_of_images[image] for image in images]))

    return Evaluation(
        scores=_scores(keypoints, samples, known, np.arange(len(samples))),
        results=results,
        num_images=predictions.num_images,
        num_instances=instances,
        seconds=predictions.seconds,
        broken=predictions.broken,
        warnings=predictions.notes,
        counts=(samples.counts,),
        by_image=ByImage(len(rows_of_images), scores_of),
        diagnose=lambda: diagnose_mpii(samples, results),
    )


def _plain(person: NDArray[np.float64]) -> list[list[float] | None]:
    """Keypoints (16, 2) -> nested lists for JSON, None where missed."""
    return [[round(float(x), 2), round(float(y), 2)] if np.isfinite((x, y)).all() else None for x, y in person]


def _scores(
    keypoints: NDArray[np.float64], samples: Mpii, known: NDArray[np.bool_], rows: NDArray[np.int64]
) -> MpiiScores:
    """Keypoints (N, 16, 2), inf where missed, which of them the model predicts (16,), and rows -> their MpiiScores."""
    visible = samples.visible[rows] * known
    limbs = visible * np.isin(MPII16.keypoint_names, LIMBS)
    at_half, at_tenth, of_limbs = (
        pckh(keypoints[rows], samples.keypoints[rows], labeled, samples.head_sizes[rows], threshold)
        for labeled, threshold in ((visible, 0.5), (visible, 0.1), (limbs, 0.5))
    )
    whole = bool(known.all())
    return MpiiScores(
        parts={part: _or_none(value) for part, value in at_half.parts.items()},
        mean=_or_none(at_half.mean) if whole else None,
        mean_at_01=_or_none(at_tenth.mean) if whole else None,
        limbs=_or_none(of_limbs.mean),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
