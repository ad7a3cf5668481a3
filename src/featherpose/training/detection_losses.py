"""Losses of the person detector: quality focal loss, GIoU, OKS of keypoints, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from featherpose.codecs import boxes
from featherpose.networks.feather_detect import STRIDES, RawDetections
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training.assign import Assignment, assign

QUALITY_WEIGHT = 1.0
BOX_WEIGHT = 2.0
KEYPOINT_WEIGHT = 0.3
FAR_WEIGHT = 0.1  # of the logarithmic error of keypoints, beside 1 - OKS
SMALLEST_AREA = 1e-6  # px²: instead of dividing by the area of an empty box
BETA = 2.0  # of the quality focal loss, the best in the paper


class DetectionTargets(NamedTuple):
    """Labels of a batch of B images, padded to M rows, in input pixels; M may be 0."""

    boxes_xyxy: Tensor
    """(B, M, 4) float32."""
    kinds: Tensor
    """(B, M) int8: NO_BOX, PERSON or IGNORED (`codecs.boxes`)."""
    keypoints: Tensor
    """(B, M, K, 2) float32."""
    visibility: Tensor
    """(B, M, K): above 0 for labeled keypoints."""
    areas: Tensor
    """(B, M) float32: of the person's outline in px², for OKS."""
    negative_weight: Tensor
    """(B,) float32: weight of background points; below 1 for images where some people may be unlabeled."""


def detection_loss(
    raw: RawDetections,
    targets: DetectionTargets,
    size: Size,
    *,
    strides: Sequence[int] = STRIDES,
    sigmas: Sequence[float] = COCO17.sigmas,
) -> Tensor:
    """Predictions and labels of a batch, size of its images -> scalar loss, float32.

    The three losses are summed over points, divided by the summed target quality of the batch (at least 1), weighted
    and added. `sigmas` (K,) are those of OKS.
    """
    points, stride_of_point = _points(size, tuple(strides), raw.logits.device)
    logits = raw.logits.float()
    predicted_xyxy = decode(points, raw.distances.float())  # (B, P, 4)
    assignment = assign(
        logits.detach().sigmoid(),
        predicted_xyxy.detach(),
        points,
        stride_of_point,
        targets.boxes_xyxy,
        targets.kinds,
    )
    weights = _point_weights(assignment, targets.negative_weight)  # (B, P)
    total = QUALITY_WEIGHT * (weights * quality_focal(logits, assignment.quality)).sum()

    image, point = (assignment.persons >= 0).nonzero(as_tuple=True)  # (R,) of the R positive points
    person = assignment.persons[image, point]
    quality = assignment.quality[image, point]
    box_errors = giou(predicted_xyxy[image, point], targets.boxes_xyxy[image, person])
    total = total + BOX_WEIGHT * (quality * box_errors).sum()

    if raw.keypoints is not None and raw.visibility is not None:
        keypoint_errors = keypoint_loss(
            raw.keypoints[image, point].float(),
            raw.visibility[image, point].float(),
            targets.keypoints[image, person],
            targets.visibility[image, person],
            targets.areas[image, person],
            sigmas,
        )
        total = total + KEYPOINT_WEIGHT * (quality * keypoint_errors).sum()
    return total / assignment.quality.sum().clamp(min=1)


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Logits and target quality in 0..1 of the same shape -> loss of each.

    |quality - score|^2 * binary cross entropy (Li et al. 2020, equation 6, https://arxiv.org/abs/2006.04388).
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).abs() ** BETA * entropy


def giou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """(R, 4) and (R, 4) boxes -> (R,) 1 - GIoU, 0 to 2.

    Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630: IoU minus the share of the enclosing box outside the
    union, so that boxes without overlap still attract each other.
    """
    low, high = boxes_xyxy.split(2, 1)  # (R, 2) each
    other_low, other_high = others_xyxy.split(2, 1)
    overlap = _area(torch.maximum(low, other_low), torch.minimum(high, other_high))
    hull = _area(torch.minimum(low, other_low), torch.maximum(high, other_high))
    union = _area(low, high) + _area(other_low, other_high) - overlap
    return 1 - overlap / union.clamp(min=SMALLEST_AREA) + (hull - union) / hull.clamp(min=SMALLEST_AREA)


def keypoint_loss(
    keypoints: Tensor, logits: Tensor, labels: Tensor, visibility: Tensor, areas: Tensor, sigmas: Sequence[float]
) -> Tensor:
    """Predicted keypoints (R, K, 2) and visibility logits (R, K), labels -> (R,) loss of each person.

    1 - OKS over the labeled keypoints (Maji et al. 2022, section 3.4, https://arxiv.org/abs/2204.06806) plus the mean
    binary cross entropy of whether a keypoint is labeled; 0 for persons without any labeled keypoint.

    OKS is exp(-e); where the scaled squared distance e is large, it has no gradient, and such keypoints would stay
    there. Hence a small part of the loss is log(1 + e).

    Args:
        keypoints: in input pixels.
        logits: of whether a keypoint is labeled.
        labels: (R, K, 2) in input pixels.
        visibility: (R, K), above 0 for labeled keypoints.
        areas: (R,) of the persons in px².
        sigmas: (K,) of OKS.
    """
    labeled = (visibility > 0).float()
    variance = (2 * torch.tensor(sigmas, device=keypoints.device)) ** 2 * areas.clamp(min=1)[:, None]  # (R, K)
    distance = ((keypoints - labels) ** 2).sum(2) / (2 * variance)  # (R, K)
    error = 1 - torch.exp(-distance) + FAR_WEIGHT * torch.log1p(distance)
    count = labeled.sum(1)
    mean_error = (error * labeled).sum(1) / count.clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(logits, labeled, reduction="none").mean(1)
    return (mean_error + entropy) * (count > 0)


def decode(points: Tensor, distances: Tensor) -> Tensor:
    """Points (P, 2) and distances (B, P, 4) -> boxes (B, P, 4) left, top, right, bottom, as `codecs.boxes.decode`."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


def _point_weights(assignment: Assignment, negative_weight: Tensor) -> Tensor:
    """(B, P) weight of each point in the quality focal loss."""
    return torch.where(assignment.persons >= 0, 1, negative_weight[:, None]) * assignment.weights


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Corners (R, 2) -> (R,) area of the boxes, 0 where a side is negative."""
    width, height = (high - low).clamp(min=0).unbind(1)
    return width * height


@lru_cache(maxsize=8)
def _points(size: Size, strides: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Points (P, 2) and the stride (P,) of each, as tensors on the device."""
    points, stride_of_point = boxes.points(size, strides)
    return torch.from_numpy(points).to(device), torch.from_numpy(stride_of_point).to(device)
