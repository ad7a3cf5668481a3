"""Boxes: formats, overlap, suppression. Arrays (N, 4) of pixels, float32."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    a, b = np.asarray(boxes_xyxy, np.float32), np.asarray(others_xyxy, np.float32)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.maximum(high - low, 0), axis=-1)
    union = _area(a)[:, None] + _area(b)[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def nms(boxes_xyxy: ArrayLike, scores: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """(N, 4) boxes, (N,) scores -> indices kept, best first: those that no better kept box overlaps by more."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    order, kept = np.argsort(-np.asarray(scores), kind="stable"), list[int]()
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[iou(boxes[best : best + 1], boxes[order])[0] <= threshold]
    return np.asarray(kept, np.int64)


def _area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=-1)
