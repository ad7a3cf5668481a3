"""Object keypoint similarity (OKS) between sets of keypoints, and the areas of persons that it is relative to.

OKS = mean over keypoints of exp(-d² / (2 area (2 sigma)²)) (COCO keypoint evaluation, Lin et al. 2014).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

BOX_TO_OUTLINE = 0.53
"""Average fraction of the box covered by the person's outline: used where the area is not annotated."""


def oks(
    keypoints: ArrayLike, others: ArrayLike, area: ArrayLike, sigmas: ArrayLike, visible: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Keypoints (K, 2) or (N, K, 2), others (N, K, 2), area in px² (scalar or (N,)), sigmas (K,) -> OKS (N,) in 0..1.

    `visible` (K,) or (N, K): only keypoints above 0 count; a person without any has an OKS of 0.
    """
    a, b = np.asarray(keypoints, np.float64), np.asarray(others, np.float64)
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    area = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    similarity = np.exp(-((a - b) ** 2).sum(axis=-1) / variance / area / 2)
    counts = np.broadcast_to(True if visible is None else np.asarray(visible) > 0, similarity.shape)
    return (similarity * counts).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)


def person_area(annotated: float | None, box_xywh: ArrayLike) -> float:
    """Annotated area of a person's outline in px², None where unknown, and box (4,) -> the area, or 0.53 of the box's.

    >>> person_area(None, [10, 20, 30, 40])
    636.0
    """
    if annotated is not None:
        return float(annotated)
    return BOX_TO_OUTLINE * float(np.prod(np.asarray(box_xywh, np.float64)[2:]))
