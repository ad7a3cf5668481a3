"""Boxes: formats, checks, IoU, random errors, boxes from keypoints. Arrays (N, 4) in pixels, float32."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.size import Size

BOX_MARGINS = np.array([-0.07, -0.14, 0.07, 0.09])
"""From the bounds of a person's keypoints to the person's box: what is added to left, top, right, bottom, as a fraction
of the larger side of the bounds. Medians over the 7,635 COCO persons in the training set of pose-train with at least
eight labeled keypoints: 0.065, 0.135, 0.075, 0.092 from the labeled keypoints to the annotated box."""


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


def whole_image_box(image_size: Size) -> NDArray[np.float32]:
    """Size of an image -> the box (1, 4) of one person who fills it."""
    return np.array([(0, 0, *image_size.xy)], np.float32)


def check_boxes(boxes_xyxy: ArrayLike, image_size: Size) -> NDArray[np.float32]:
    """Boxes of persons in an image of `image_size` -> (N, 4) float32; no box in any form gives (0, 4).

    InputError for another shape, and for the first box that is not finite, has no area or is outside the image.
    """
    try:
        with np.errstate(over="ignore"):
            boxes = np.asarray(boxes_xyxy, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"The boxes are not numbers ({error}), wanted (N, 4): left, top, right, bottom.") from None
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"The boxes have shape {boxes.shape}, wanted (N, 4): left, top, right, bottom.")
    left, top, right, bottom = boxes.T
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    _refuse(~finite, boxes, "is not finite; leave such boxes out")
    _refuse((right <= left) | (bottom <= top), boxes, "has no area; wanted left < right and top < bottom")
    outside: NDArray[np.bool_] = (right <= 0) | (bottom <= 0) | (left >= image_size.width) | (top >= image_size.height)
    _refuse(outside, boxes, f"lies outside the image of {image_size} pixels; leave it out")
    return boxes


def _refuse(wrong: NDArray[np.bool_], boxes: NDArray[np.float32], why: str) -> None:
    if wrong.any():
        index = int(wrong.argmax())
        raise InputError(f"Box {index} {[round(float(side), 2) for side in boxes[index]]} {why}.")


def _area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=-1)
