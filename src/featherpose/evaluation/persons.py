"""Keypoints of labeled persons, predicted in their boxes by a model whose skeleton may be another one: by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import DataError
from featherpose.evaluation.pckh import PARTS
from featherpose.evaluation.prediction import LabeledImage, Predict, Predictions, predict_images
from featherpose.skeleton import Skeleton

LIMBS = tuple(keypoint for part, keypoints in PARTS.items() if part != "head" for keypoint in keypoints)
"""Shoulders, elbows, wrists, hips, knees and ankles."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a model found of N persons with K keypoints."""

    keypoints: NDArray[np.float64]
    """(N, K, 2) in image pixels; inf where missed, or unknown to the model."""
    known: NDArray[np.bool_]
    """(K,) keypoints that the model predicts."""
    rows: list[NDArray[np.int64]]
    """The persons of each image: indices into N."""
    predictions: Predictions
    num_instances: int

    def in_limbs(self, skeleton: Skeleton) -> NDArray[np.bool_]:
        """Skeleton of the K keypoints -> (K,) those of arms and legs."""
        return np.isin(skeleton.keypoint_names, LIMBS)

    def to_results(self, image_names: Sequence[str]) -> list[dict[str, object]]:
        """Image of each person -> `image` and `keypoints` (K x 2, None where missed) of each, for JSON."""
        return [
            {"image": name, "keypoints": _plain(person)}
            for name, person in zip(image_names, self.keypoints, strict=True)
        ]


def predict_persons(
    folder: Path,
    image_names: Sequence[str],
    boxes_xyxy: NDArray[np.float32],
    skeleton: Skeleton,
    predict: Predict,
    model_skeleton: Skeleton,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Folder of images, image (N,) and box (N, 4) of each person and the skeleton of their labels, a function from
    images and boxes to Poses and its skeleton -> Found.

    An image that cannot be read is listed, and its persons are missed. DataError for a model without arms and legs.
    """
    shared = [keypoint for keypoint in skeleton.keypoint_names if keypoint in model_skeleton.keypoint_names]
    if not set(LIMBS) <= set(shared):
        raise DataError(
            f"The model's skeleton {model_skeleton.name} lacks some of the arm and leg keypoints of {skeleton.name}."
        )
    columns = np.array([skeleton.keypoint_names.index(keypoint) for keypoint in shared])
    predicted_columns = [model_skeleton.keypoint_names.index(keypoint) for keypoint in shared]
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, image_name in enumerate(image_names):
        rows[image_name].append(row)
    labeled = [LabeledImage(name, boxes_xyxy[image_rows]) for name, image_rows in rows.items()]
    predictions = predict_images(folder, labeled, predict, model_skeleton, progress)
    keypoints = np.full((len(image_names), skeleton.num_keypoints, 2), np.inf)  # missed
    instances = 0
    for image_rows, found in zip(rows.values(), predictions.poses, strict=True):
        if found is not None:
            instances += len(found)
            for row, person in zip(image_rows, found.keypoints, strict=True):
                keypoints[row, columns] = person[predicted_columns]
    return Found(
        keypoints=keypoints,
        known=np.isin(np.arange(skeleton.num_keypoints), columns),
        rows=[np.array(image_rows) for image_rows in rows.values()],
        predictions=predictions,
        num_instances=instances,
    )


def or_none(value: float) -> float | None:
    """Score -> the same, None in place of nan: nothing was labeled."""
    return None if np.isnan(value) else float(value)


def _plain(person: NDArray[np.float64]) -> list[list[float] | None]:
    """Keypoints (K, 2) -> nested lists for JSON, None where missed."""
    return [[round(float(x), 2), round(float(y), 2)] if np.isfinite((x, y)).all() else None for x, y in person]
