"""Boxes: formats, IoU, random errors, boxes from keypoints. Arrays (N, 4) in pixels, float32."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

BOX_MARGINS = np.array([-0.07, -0.14, 0.07, 0.09])
"""From the bounds of a person's keypoints to the person's box: what is added to left, top, right, bottom, as a fraction
of the larger side of the bounds. Medians over the 7,635 COCO persons in the training set of pose-train with at least
eight labeled keypoints: 0.065, 0.135, 0.075, 0.092 from the labeled keypoints to the annotated box."""

BOX_TO_OUTLINE = 0.53
"""Average fraction of the box covered by the person's outline: used where the area is not annotated."""


def xywh_to_xyxy(boxes_xywh: ArrayLike) -> NDArray[np.float32]:
    """(..., 4) left, top, width, height -> (..., 4) left, top, right, bottom."""
    boxes = np.asarray(boxes_xywh, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: ArrayLike) -> NDArray[np.float32]:
    """(..., 4) left, top, right, bottom -> (..., 4) left, top, width, height."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def iou(boxes_xyxy: ArrayLike, others_xyxy: ArrayLike) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over union; 0 where both are empty."""
    a = np.asarray(boxes_xyxy, np.float32)
    b = np.asarray(others_xyxy, np.float32)
    overlap = _overlap(a, b)
    return _ratio(overlap, _area(a)[:, None] + _area(b)[None] - overlap)


def overlap_of_first(boxes_xyxy: ArrayLike, others_xyxy: ArrayLike) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over the area of the first box; 0 where it is empty."""
    a = np.asarray(boxes_xyxy, np.float32)
    b = np.asarray(others_xyxy, np.float32)
    overlap = _overlap(a, b)
    return _ratio(overlap, np.broadcast_to(_area(a)[:, None], overlap.shape))


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) boxes -> (N, M) area of the intersection."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=-1)


def _ratio(parts: NDArray[np.float32], wholes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)


def jitter_boxes(boxes_xyxy: ArrayLike, amount: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N, 4) boxes -> (N, 4) boxes with an independent random error on each side, like those of a detector.

    The errors are normal with a standard deviation of `amount` (0 to below 0.25) x the width or height, clipped at two
    standard deviations: a box keeps a positive area and contains its original center.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    errors = amount * rng.standard_normal(boxes.shape).clip(-2, 2)
    return (boxes + errors * np.tile(boxes[:, 2:] - boxes[:, :2], 2)).astype(np.float32)


def box_of_keypoints(keypoints: ArrayLike, confident: ArrayLike) -> NDArray[np.float32] | None:
    """Keypoints (K, 2), of which those marked in `confident` (K,) count -> box (4,) around them plus `BOX_MARGINS`.

    None where fewer than half of the keypoints are confident or their bounds have no area: they do not determine the
    box of a whole person.
    """
    points, chosen = np.asarray(keypoints, np.float32), np.asarray(confident, bool)
    if 2 * np.count_nonzero(chosen) < len(points):
        return None
    low, high = points[chosen].min(axis=0), points[chosen].max(axis=0)
    if not (high > low).all():
        return None
    return np.concatenate([low, high]) + (BOX_MARGINS * (high - low).max()).astype(np.float32)


def _area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=-1)
