"""COCO's keypoint result format (cocodataset.org, results format): a list with one dict per person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import xywh_to_xyxy, xyxy_to_xywh
from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

PERSON = 1


def to_results(poses: Poses, image_id: int | str, category_id: int = PERSON) -> list[dict[str, Any]]:
    """Poses of one image -> its COCO results. `score` is the person's score; v of each keypoint is its score."""
    keypoints = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1, dtype=np.float64).round(4)
    boxes = xyxy_to_xywh(poses.boxes_xyxy).astype(np.float64)
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": keypoints[i].ravel().tolist(),
            "score": float(poses.person_scores[i]),
            "bbox": boxes[i].round(2).tolist(),
        }
        for i in range(len(poses))
    ]


def from_results(
    results: Iterable[Mapping[str, Any]], skeleton: Skeleton, image_sizes: Mapping[int | str, Size]
) -> dict[int | str, Poses]:
    """COCO results and each image's size -> Poses by image id; empty Poses for an image without results.

    A person without `bbox` gets the bounding box of the keypoints. Box scores are chosen so that the person scores
    equal the `score` of the results.
    """
    rows_by_image: dict[int | str, list[Mapping[str, Any]]] = {image_id: [] for image_id in image_sizes}
    for result in results:
        if result.get("image_id") not in rows_by_image:
            raise InputError(f"COCO results: image_id {result.get('image_id')!r} is not among the given images.")
        rows_by_image[result["image_id"]].append(result)
    return {image_id: _poses(rows, skeleton, image_sizes[image_id]) for image_id, rows in rows_by_image.items()}


def _poses(rows: list[Mapping[str, Any]], skeleton: Skeleton, image_size: Size) -> Poses:
    if not rows:
        return Poses.empty(skeleton, image_size)
    lengths = {len(row["keypoints"]) for row in rows}
    if lengths != {3 * skeleton.num_keypoints}:
        raise InputError(
            f"COCO results: {max(lengths)} numbers in keypoints, wanted 3 x {skeleton.num_keypoints} ({skeleton.name})."
        )
    keypoints = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)
    boxes = np.stack([_box(row, points) for row, points in zip(rows, keypoints[..., :2], strict=True)])
    ones = np.ones(len(rows), np.float32)
    poses = Poses(keypoints[..., :2], keypoints[..., 2], boxes, ones, skeleton, image_size)
    mean = poses.person_scores  # of the keypoints alone, because every box score is 1 here
    stated = np.array([row["score"] for row in rows], np.float32)
    scores = np.divide(stated, mean, out=stated.copy(), where=mean > 0)
    return Poses(poses.keypoints, poses.scores, boxes, scores, skeleton, image_size)


def _box(row: Mapping[str, Any], points: NDArray[np.float32]) -> NDArray[np.float32]:
    if "bbox" in row:
        return xywh_to_xyxy(row["bbox"])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
