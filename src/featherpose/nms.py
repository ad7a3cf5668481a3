"""Non-maximum suppression: of boxes by IoU, of poses by OKS (hard or soft) or by parametric pose similarity.

Parametric pose NMS: Fang et al. 2017, "RMPE: Regional Multi-person Pose Estimation", section 3.3. The most confident
pose is kept, poses too similar to it are suppressed, and so on with the rest. The similarity of pose j to the kept pose
i combines keypoint scores and keypoint distances:

    K_sim + lambda H_sim,
    K_sim = mean over keypoints of tanh(c_i / sigma1) tanh(c_j / sigma1), 0 for a keypoint of j outside the box around
            the same keypoint of i whose sides are a tenth of those of person i's box,
    H_sim = mean over keypoints of exp(-d² / sigma2), d the distance between the two keypoints,

with keypoint scores c. It differs from the paper's text in three ways: sums over keypoints are means, so that one
threshold works for any skeleton; d is measured in tenths of the larger side of person i's box (the paper leaves its
unit open), so that sigma2 works for persons of any size; and a pose is suppressed when the value is above eta: the
paper writes "at most", which would suit a distance, but both terms increase with similarity.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.boxes import iou
from featherpose.oks import oks

SIGMA1 = 1.0
SIGMA2 = 2.65
LAMBDA = 1.7
ETA = 1.32
"""sigma1, sigma2, lambda, eta: the values of the authors' released program, made for COCO's 17 keypoints. This eta is
the mean over them; the program has 22.48, the sum, and uses the plain distance instead of d². The paper fits the four
to validation data; around these values, AP on the validation set is flat (docs/log/2026-11-25-boxes.md)."""


def pose_similarity(
    keypoints: ArrayLike,
    keypoint_scores: ArrayLike,
    others: ArrayLike,
    other_scores: ArrayLike,
    box_xyxy: ArrayLike,
    sigma1: float = SIGMA1,
    sigma2: float = SIGMA2,
    balance: float = LAMBDA,
) -> NDArray[np.float64]:
    """One pose (K, 2), its scores (K,) and box (4,); others (N, K, 2), (N, K) -> similarity (N,), 0 to 1 + balance.

    `balance` is lambda, the weight of the distance term relative to the score term.
    """
    away = np.abs(np.asarray(others, np.float64) - np.asarray(keypoints, np.float64))  # (N, K, 2)
    corners = np.reshape(np.asarray(box_xyxy, np.float64), (2, 2))
    sides = np.diff(corners, axis=0)[0]  # (2,) width and height
    tenth = np.maximum(sides, np.spacing(1)) / 10  # above 0, because distances are divided by it
    confident = np.tanh(np.asarray(keypoint_scores) / sigma1) * np.tanh(np.asarray(other_scores) / sigma1)  # (N, K)
    matched = (away <= tenth / 2).all(axis=-1)  # (N, K)
    near = np.exp(-((away / tenth.max()) ** 2).sum(axis=-1) / sigma2)  # (N, K)
    return (confident * matched + balance * near).mean(axis=-1)


def pose_nms(
    keypoints: ArrayLike,
    keypoint_scores: ArrayLike,
    scores: ArrayLike,
    boxes_xyxy: ArrayLike,
    threshold: float = ETA,
    sigma1: float = SIGMA1,
    sigma2: float = SIGMA2,
    balance: float = LAMBDA,
) -> NDArray[np.int64]:
    """Poses (N, K, 2), keypoint scores (N, K), scores (N,), boxes (N, 4) -> kept indices, best first.

    A pose is suppressed when its similarity to a better, kept pose is greater than the threshold.
    """
    points = np.asarray(keypoints, np.float64)
    confident = np.asarray(keypoint_scores, np.float64)
    boxes = np.asarray(boxes_xyxy, np.float64)

    def similarity(best: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        return pose_similarity(
            points[best], confident[best], points[others], confident[others], boxes[best], sigma1, sigma2, balance
        )

    return _greedy(scores, similarity, threshold)


MIN_SCORE = 0.01
NMS_IOU = 0.5
MAX_BOXES = 300
"""Of person detectors, in training and in the exported graph; users choose a higher score threshold afterward."""


def detector_nms(boxes_xyxy: ArrayLike, scores: ArrayLike) -> NDArray[np.int64]:
    """All boxes (P, 4) and scores (P,) that a detector predicts -> indices of at most 300 detections, best first."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    confident = np.flatnonzero(np.asarray(scores) > MIN_SCORE)
    return confident[nms(boxes[confident], np.asarray(scores)[confident], NMS_IOU)[:MAX_BOXES]]


def nms(boxes_xyxy: ArrayLike, scores: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """(N, 4) boxes, (N,) scores -> kept indices, best first.

    A box is suppressed when its IoU with a better, kept box is greater than the threshold.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    return _greedy(scores, lambda best, others: iou(boxes[best : best + 1], boxes[others])[0], threshold)


def oks_nms(
    keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike, sigmas: ArrayLike, threshold: float = 0.9
) -> NDArray[np.int64]:
    """Poses (N, K, 2), scores (N,), areas (N,) in px² -> kept indices, best first.

    A pose is suppressed when its OKS with a better, kept pose, over the mean of both areas, is greater than the
    threshold.
    """
    points = np.asarray(keypoints, np.float64)
    areas = np.asarray(areas, np.float64)

    def similarity(best: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        return oks(points[best], points[others], (areas[best] + areas[others]) / 2, sigmas)

    return _greedy(scores, similarity, threshold)


def soft_oks_nms(
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    threshold: float = 0.9,
    max_poses: int = 20,
) -> NDArray[np.int64]:
    """Like `oks_nms`, but the scores of other poses decay by exp(-OKS² / threshold) (soft NMS, Bodla et al. 2017).

    Returns at most `max_poses` indices in the order of their selection.
    """
    points = np.asarray(keypoints, np.float64)
    areas = np.asarray(areas, np.float64)
    decayed = np.asarray(scores, np.float64).copy()
    kept: list[int] = []
    for _ in range(min(max_poses, len(decayed))):
        best = int(np.argmax(decayed))
        kept.append(best)
        similarity = oks(points[best], points, (areas[best] + areas) / 2, sigmas)
        decayed *= np.exp(-(similarity**2) / threshold)
        decayed[best] = -np.inf  # never selected again
    return np.asarray(kept, np.int64)


def _greedy(
    scores: ArrayLike, similarity: Callable[[int, NDArray[np.int64]], NDArray[Any]], threshold: float
) -> NDArray[np.int64]:
    """Scores (N,), and the similarity of one index to others -> kept indices, best first.

    Each is suppressed when its similarity to a better, kept one is greater than the threshold. Equal scores keep their
    order, so that results do not vary.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[int] = []
    while order.size:
        best = int(order[0])
        order = order[1:]
        kept.append(best)
        order = order[similarity(best, order) <= threshold]
    return np.asarray(kept, np.int64)
