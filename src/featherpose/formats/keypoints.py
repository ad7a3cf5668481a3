"""Poses from keypoints alone, for the formats that contain no boxes; poses for formats without NaN; numbers in text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import files
from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton


def to_poses(persons: ArrayLike, skeleton: Skeleton, image_size: Size, ids: Sequence[int] | None = None) -> Poses:
    """(N, K, 3) x, y, score of N persons -> Poses. Box scores are 1; boxes are the bounds of the keypoints."""
    values = np.asarray(persons, np.float32).reshape(-1, skeleton.num_keypoints, 3)
    if not len(values):
        return Poses.empty(skeleton, image_size)
    boxes = bounds(values)
    box_scores = np.ones(len(values), np.float32)
    known_ids = None if ids is None else np.array(ids, np.int64)
    return Poses(values[..., :2], values[..., 2], boxes, box_scores, skeleton, image_size, known_ids)


def bounds(persons: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, K, 3) x, y, score of N persons -> (N, 4) bounds of their keypoints, left, top, right, bottom.

    Keypoints of score 0, which other programs place at (0, 0), do not count unless a person has no other, and neither
    do those that are NaN.
    """
    boxes: list[NDArray[np.float32]] = []
    for person in persons:
        found = person[np.isfinite(person).all(axis=1) & (person[:, 2] > 0)]
        points = found[:, :2] if len(found) else person[:, :2]
        boxes.append(np.concatenate([points.min(axis=0), points.max(axis=0)]))
    return np.stack(boxes)


def without_nan(poses: Poses) -> Poses:
    """Poses -> the same for a format that has no NaN: a keypoint that is not finite is at (0, 0) and has the score 0,
    like one that is not found; other numbers that are not finite are 0."""
    finite: NDArray[np.bool_] = np.isfinite(poses.keypoints).all(axis=2) & np.isfinite(poses.scores)
    return replace(
        poses,
        keypoints=np.where(finite[..., None], poses.keypoints, 0),
        scores=np.where(finite, poses.scores, 0),
        boxes_xyxy=np.where(np.isfinite(poses.boxes_xyxy), poses.boxes_xyxy, 0),
        box_scores=np.where(np.isfinite(poses.box_scores), poses.box_scores, 0),
    )


def check(values: Any, num_keypoints: int, where: str, skeleton_name: str) -> None:
    """InputError, which begins with `where`, unless a JSON value is a list of x, y, score of each keypoint."""
    wanted = f"wanted 3 x {num_keypoints} finite numbers ({skeleton_name})"
    if not isinstance(values, list):
        raise InputError(f"{where}: a JSON {type(values).__name__}, {wanted}.")
    if len(values) != 3 * num_keypoints:
        raise InputError(f"{where}: {len(values)} numbers, {wanted}.")
    wrong = [value for value in values if not files.is_number(value)]
    if wrong:
        raise InputError(f"{where}: contains {wrong[0]!r}, {wanted}.")


def number(text: str, what: str) -> float:
    """Text of a finite number -> its value; InputError, which names `what` it is, for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not files.is_number(value):
        raise InputError(f"{what} is {text!r}, wanted a finite number.")
    return value
