"""Scores of person detections: AP over box IoU, the recall that one false box per image buys, and the score from which
most boxes are right. numpy only.

COCO's rules (Lin et al. 2014): detections in the order of their scores each take the free box with the largest IoU, a
box to be ignored counts neither as found nor as missed, and may take any number of detections that lie in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import iou, overlap_of_first

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten IoU thresholds."""
TALL = 0.2
"""A person is tall with at least this fraction of the image's height: whoever a photo is about."""
PRECISION = 0.9
"""Fraction of the boxes shown to a user that should be right."""
MIN_BOXES = 100
"""Boxes at least on which a precision is measured: its standard error is then at most 0.03 at 0.9."""
MAX_DETECTIONS = 100
"""Per image, the best ones, as on COCO's server."""


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """Detections in one image and the boxes labeled there, all in pixels of that image."""

    boxes_xyxy: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,)
    labels_xyxy: NDArray[np.float32]  # (M, 4)
    ignored: NDArray[np.bool_]  # (M,) neither to be found nor missed
    height: float  # of the image


@dataclass(frozen=True)
class DetectionScores:
    """Fractions 0 to 1; nan where no person is labeled."""

    ap: float  # mean over the IoU thresholds 0.50, 0.55, ... 0.95
    ap50: float
    recall: float
    """Of tall people at IoU 0.5 and the score threshold that leaves one false box per image on average."""


def detection_scores(found: Sequence[ImageDetections]) -> DetectionScores:
    """Detections and labels of a set of images -> DetectionScores."""
    aps = [average_precision(images) for images in match_at_thresholds(found)]
    return DetectionScores(float(np.mean(aps)), aps[0], recall_at_false_boxes(found, 1.0))


def recall_at_false_boxes(found: Sequence[ImageDetections], false_boxes: float, min_height: float = TALL) -> float:
    """Detections and labels -> recall at IoU 0.5 with `false_boxes` per image on average, of people of `min_height`.

    `min_height` is a fraction of the image's height; smaller people are ignored.
    """
    return recall_of_matched(match_images(found, min_height), false_boxes)


def recall_of_matched(matched: Sequence[MatchedImage], false_boxes: float) -> float:
    """As for `recall_at_false_boxes`, of images whose detections are matched."""
    _, right, total = _ranked(matched)
    if not total:
        return float("nan")
    allowed = np.cumsum(~right) <= false_boxes * len(matched)
    return float(np.count_nonzero(right[allowed]) / total)


def score_at_precision(
    found: Sequence[ImageDetections], precision: float = PRECISION, min_boxes: int = MIN_BOXES
) -> float:
    """Detections and labels -> the lowest score s such that, of all boxes with a score of at least s, `precision` are
    right; nan where no score reaches it with `min_boxes` boxes.

    A box is right if its IoU with a person whom no better box has taken is at least 0.5. One that lies in an ignored
    region counts neither as right nor as wrong.
    """
    return score_of_matched(match_images(found), precision, min_boxes)


def score_of_matched(
    matched: Sequence[MatchedImage], precision: float = PRECISION, min_boxes: int = MIN_BOXES
) -> float:
    """As for `score_at_precision`, of images whose detections are matched."""
    scores, right, _ = _ranked(matched)
    numbers = np.arange(1, len(scores) + 1)
    # Boxes of equal score are in or out together.
    ends_a_score = scores != np.append(scores[1:], -1)
    reached = ends_a_score & (numbers >= min_boxes) & (np.cumsum(right) >= precision * numbers)
    return float(scores[reached][-1]) if reached.any() else float("nan")


@dataclass(frozen=True, eq=False)
class MatchedImage:
    """Detections of an image, each of which found a person or did not."""

    scores: NDArray[np.float32]  # (N,) of the detections that count
    right: NDArray[np.bool_]  # (N,) whether each found a person
    total: int  # people to be found


def match_images(found: Sequence[ImageDetections], min_height: float = 0.0) -> list[MatchedImage]:
    """Detections and labels -> those matched at IoU 0.5; people below `min_height`, a fraction of the image's height,
    are ignored."""
    return [_match(_only_tall(image, min_height), THRESHOLDS[0]) for image in found]


def match_at_thresholds(found: Sequence[ImageDetections]) -> list[list[MatchedImage]]:
    """Detections and labels -> for each of THRESHOLDS the images matched at it."""
    return [[_match(image, threshold) for image in found] for threshold in THRESHOLDS]


def _match(image: ImageDetections, threshold: float) -> MatchedImage:
    order = np.argsort(-image.scores, kind="stable")[:MAX_DETECTIONS]
    boxes = image.boxes_xyxy[order]
    overlaps = iou(boxes, image.labels_xyxy[~image.ignored])  # (N, M)
    in_ignored = overlap_of_first(boxes, image.labels_xyxy[image.ignored]).max(axis=1, initial=0) >= threshold
    free = np.ones(overlaps.shape[1], bool)
    right = np.zeros(len(order), bool)
    for row, overlap in enumerate(overlaps):
        candidates = np.where(free, overlap, -1)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= threshold:
            free[best] = False
            right[row] = True
    counted = right | ~in_ignored
    return MatchedImage(image.scores[order][counted], right[counted], len(free))


def _only_tall(image: ImageDetections, min_height: float) -> ImageDetections:
    """The same image in which smaller people are ignored."""
    heights = image.labels_xyxy[:, 3] - image.labels_xyxy[:, 1]
    ignored = image.ignored | (heights < min_height * image.height)
    return ImageDetections(image.boxes_xyxy, image.scores, image.labels_xyxy, ignored, image.height)


def _ranked(matched: Sequence[MatchedImage]) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """All detections of all images, best first: scores, whether each is right; and the number of people."""
    scores = np.concatenate([image.scores for image in matched])
    right = np.concatenate([image.right for image in matched])
    order = np.argsort(-scores, kind="stable")
    return scores[order], right[order], sum(image.total for image in matched)


def average_precision(matched: Sequence[MatchedImage]) -> float:
    """Matched images -> mean of the precision at 101 recalls, each the best at this recall or above (COCO)."""
    _, right, total = _ranked(matched)
    if not total:
        return float("nan")
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / total, np.linspace(0, 1, 101))
    return float(np.append(best_from_here, 0.0)[np.minimum(at, len(right))].mean())
