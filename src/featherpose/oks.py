"""Object keypoint similarity between sets of joints, and the suppression of duplicate people by it.

OKS = mean over joints of exp(-d² / (2 area (2 sigma)²)) (COCO keypoint evaluation, Lin et al. 2014).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def oks(
    keypoints: ArrayLike, others: ArrayLike, area: ArrayLike, sigmas: ArrayLike, visible: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Joints (K, 2) or (N, K, 2), others (N, K, 2), area in px² (one, or (N,)), sigmas (K,) -> OKS (N,) in 0..1.

    `visible` (K,) or (N, K): only joints above 0 count; a person without any scores 0.
    """
    a, b = np.asarray(keypoints, np.float64), np.asarray(others, np.float64)
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    area = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    similarity = np.exp(-((a - b) ** 2).sum(axis=-1) / variance / area / 2)
    counts = np.broadcast_to(True if visible is None else np.asarray(visible) > 0, similarity.shape)
    return (similarity * counts).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)


def oks_nms(
    keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike, sigmas: ArrayLike, threshold: float = 0.9
) -> NDArray[np.int64]:
    """People (N, K, 2), scores (N,), areas (N,) in px² -> indices kept, best first.

    A person goes when its OKS with a better one, over the mean of both areas, is greater than the threshold.
    """
    points, areas = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    order, kept = np.argsort(-np.asarray(scores), kind="stable"), list[int]()
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        similarity = oks(points[best], points[order], (areas[best] + areas[order]) / 2, sigmas)
        order = order[similarity <= threshold]
    return np.asarray(kept, np.int64)


def soft_oks_nms(
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    threshold: float = 0.9,
    max_people: int = 20,
) -> NDArray[np.int64]:
    """As `oks_nms`, but neighbours of a picked person are scored down by exp(-OKS² / threshold) (Bodla et al. 2017).

    Returns at most `max_people` indices in the order in which they were picked.
    """
    points, areas = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    left, kept = np.asarray(scores, np.float64).copy(), list[int]()
    for _ in range(min(max_people, len(left))):
        best = int(np.argmax(left))
        kept.append(best)
        left *= np.exp(-(oks(points[best], points, (areas[best] + areas) / 2, sigmas) ** 2) / threshold)
        left[best] = -np.inf
    return np.asarray(kept, np.int64)
