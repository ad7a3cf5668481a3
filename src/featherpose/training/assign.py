"""Task-aligned assignment: which point of a detector's maps learns which person.

TOOD, Feng et al. 2021, section 3.2, https://arxiv.org/abs/2108.07755, with two additions for the first steps, when
predictions hardly overlap people: a prior for points near a person's center, and a smallest target.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from featherpose.codecs.boxes import IGNORED, PERSON

SCORE_POWER = 1.0  # alpha
IOU_POWER = 6.0  # beta
POINTS_PER_PERSON = 10  # TOOD takes 13, with more levels
PRIOR = 1e-9  # the alignment at a score of 0.01 and an IoU of 0.07: it counts below that
SMALLEST_TARGET = 0.05
"""Of a person's best point. Without it, a person that no predicted box overlaps would have no box loss, ever."""


class Assignment(NamedTuple):
    """Targets of the P points of each image of a batch."""

    persons: Tensor
    """(B, P) int64: row of the point's person in the labels, -1 for background."""
    quality: Tensor
    """(B, P) target of the score: aligned points up to the person's largest IoU, background 0."""
    weights: Tensor
    """(B, P) 0 for background points in ignored boxes, else 1."""


@torch.no_grad()
def assign(
    scores: Tensor, boxes_xyxy: Tensor, points: Tensor, strides: Tensor, labels_xyxy: Tensor, kinds: Tensor
) -> Assignment:
    """Predictions of a batch and its labels, padded to M rows -> the assignment; all boxes in input pixels.

    The alignment of a point with a person is score * IoU^6. A person's candidates are the points in its box, or the one
    nearest to its center; the ten with the largest alignment learn it. A point wanted by several persons gets the one
    with the larger IoU; a person who loses all points that way takes its best candidate from a person with several.
    The target is the alignment, scaled so that a person's largest is its largest IoU.

    Args:
        scores: (B, P) probabilities.
        boxes_xyxy: (B, P, 4) predicted boxes.
        points: (P, 2) x, y.
        strides: (P,) in pixels.
        labels_xyxy: (B, M, 4) boxes of persons and ignored regions; M may be 0.
        kinds: (B, M) NO_BOX, PERSON or IGNORED (`codecs.boxes`).
    """
    if labels_xyxy.shape[1] == 0:
        background = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
        return Assignment(background, torch.zeros_like(scores), torch.ones_like(scores))
    inside = _inside(points, labels_xyxy)  # (B, M, P)
    away = _distance_to_center(points, labels_xyxy)  # (B, M, P)
    candidates = _candidates(inside, away) & (kinds == PERSON)[:, :, None]
    overlap = pairwise_iou(labels_xyxy, boxes_xyxy)  # (B, M, P)
    alignment = scores[:, None] ** SCORE_POWER * overlap**IOU_POWER + PRIOR / (1 + away / strides)
    alignment = torch.where(candidates, alignment, 0)
    persons = _resolve(_most_aligned(alignment), overlap)  # (B, P)
    persons = _give_to_persons_without(persons, alignment, overlap)
    quality = _target_quality(persons, alignment, overlap)
    ignored = (inside & (kinds == IGNORED)[:, :, None]).any(1)
    return Assignment(persons, quality, (~ignored | (persons >= 0)).to(scores.dtype))


def pairwise_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """(B, M, 4) and (B, P, 4) boxes -> (B, M, P) intersection over union; 0 where both are empty."""
    a = boxes_xyxy[:, :, None].unbind(3)  # four of (B, M, 1)
    b = others_xyxy[:, None].unbind(3)  # four of (B, 1, P)
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp(min=0)
    overlap = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    union = areas - overlap
    return torch.where(union > 0, overlap / union, 0)


def _inside(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Points (P, 2), boxes (B, M, 4) -> (B, M, P) whether the point is inside the box."""
    x, y = points.unbind(1)
    left, top, right, bottom = boxes_xyxy[:, :, None].unbind(3)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _distance_to_center(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Points (P, 2), boxes (B, M, 4) -> (B, M, P) pixels from the point to the center of the box."""
    centers = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    x, y = (points - centers[:, :, None]).unbind(3)
    return torch.hypot(x, y)


def _candidates(inside: Tensor, away: Tensor) -> Tensor:
    """(B, M, P) points inside the boxes; for a box between the points, the nearest point."""
    nearest = torch.zeros_like(inside).scatter_(2, away.argmin(2, keepdim=True), True)
    return inside | (nearest & ~inside.any(2, keepdim=True))


def _most_aligned(alignment: Tensor) -> Tensor:
    """(B, M, P) alignment, 0 unless a candidate -> (B, M, P) whether the point is among the best ten of the person."""
    best = alignment.topk(min(POINTS_PER_PERSON, alignment.shape[2]), dim=2)
    return torch.zeros_like(alignment, dtype=torch.bool).scatter_(2, best.indices, best.values > 0)


def _resolve(wanted: Tensor, overlap: Tensor) -> Tensor:
    """(B, M, P) wanted points and IoUs -> (B, P) the person with the largest IoU of those who want it, or -1."""
    overlap_of_wanted, person = torch.where(wanted, overlap, -1).max(1)
    return torch.where(overlap_of_wanted >= 0, person, -1)


def _give_to_persons_without(persons: Tensor, alignment: Tensor, overlap: Tensor) -> Tensor:
    """Assigned persons (B, P) -> the same, after every person without a point took its best candidate.

    It is taken only from a person who has others, so that nobody loses the last one.
    """
    owned = _owned(persons, alignment.shape[1])  # (B, M, P)
    counts = owned.sum(2, keepdim=True)  # (B, M, 1)
    is_last = (owned & (counts == 1)).any(1, keepdim=True)  # (B, 1, P)
    best, point = torch.where(is_last, 0, alignment).max(2, keepdim=True)  # (B, M, 1)
    takes = (counts == 0) & (best > 0)
    taken = _resolve(torch.zeros_like(owned).scatter_(2, point, takes), overlap)  # (B, P)
    return torch.where(taken >= 0, taken, persons)


def _target_quality(persons: Tensor, alignment: Tensor, overlap: Tensor) -> Tensor:
    """Assigned persons (B, P), alignment and IoU (B, M, P) -> (B, P) target, 0 for background."""
    owned = _owned(persons, alignment.shape[1])
    alignment = torch.where(owned, alignment, 0)
    largest_iou = torch.where(owned, overlap, 0).amax(2, keepdim=True).clamp(min=SMALLEST_TARGET)  # (B, M, 1)
    largest = alignment.amax(2, keepdim=True)
    return (alignment / torch.where(largest > 0, largest, 1) * largest_iou).amax(1)


def _owned(persons: Tensor, count: int) -> Tensor:
    """Assigned persons (B, P), -1 for background -> (B, count, P) one-hot."""
    return persons[:, None] == torch.arange(count, device=persons.device)[:, None]
