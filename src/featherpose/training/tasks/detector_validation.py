"""The validation set of a person detector and its scores: AP and recall, the loss, and the score threshold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose.codecs import boxes
from featherpose.codecs.boxes import IGNORED
from featherpose.data.scene_augment import Image, SceneLabels, letterbox
from featherpose.evaluation.detection import ImageDetections, detection_scores, score_at_precision
from featherpose.networks.feather_detect import STRIDES, RawDetections
from featherpose.networks.preprocess import Normalize
from featherpose.nms import detector_nms
from featherpose.size import Size
from featherpose.training.detection_losses import DetectionTargets, detection_loss
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.tasks.detector_training import MAX_PEOPLE, SceneSet, padded_targets

BATCH = 16
CONF = 0.3
"""Score threshold of a detector of which no threshold leaves 90 % right boxes, as early in a training."""


@dataclass(frozen=True, eq=False)
class DetectorValidationSet:
    """Letterboxed inputs, not augmented, with their labels in input pixels."""

    images: Sequence[Image]
    labels: Sequence[SceneLabels]
    negative_weights: Sequence[float]


def validation_set_of(scenes: SceneSet, long_side: int) -> DetectorValidationSet:
    """Scenes -> their inputs at this long side, as at inference."""
    inputs = [letterbox(*scenes[index], long_side) for index in range(len(scenes))]
    return DetectorValidationSet(
        images=[image for image, _, _ in inputs],
        labels=[labels for _, labels, _ in inputs],
        negative_weights=[scene.negative_weight for scene in scenes.scenes],
    )


def validate(
    network: nn.Module, validation_set: DetectorValidationSet, device: torch.device, ranks: Ranks = SINGLE_PROCESS
) -> dict[str, float]:
    """Network -> AP, AP50 and recall of tall people at one false box per image in percent, the mean loss, and `conf`,
    the score threshold at which 90 % of the boxes are right (`score_at_precision`), rounded up to hundredths.

    Every process computes all of them: the set is small.
    """
    found, loss = detections_of(network, validation_set, device)
    scores = detection_scores(found)
    conf = score_at_precision(found)
    return {
        "box_ap": 100 * scores.ap,
        "box_ap50": 100 * scores.ap50,
        "box_recall": 100 * scores.recall,
        "loss": loss,
        "conf": math.ceil(100 * conf) / 100 if math.isfinite(conf) else CONF,
    }


@torch.no_grad()
def detections_of(
    network: nn.Module, validation_set: DetectorValidationSet, device: torch.device
) -> tuple[list[ImageDetections], float]:
    """Network -> its detections in each image of the set, in their order, and the mean loss."""
    was_training = network.training
    network.eval()
    normalize = Normalize().to(device)
    found: dict[int, ImageDetections] = {}
    losses: list[float] = []
    for indices in _batches_of_one_size(validation_set.images):
        images = torch.from_numpy(np.stack([validation_set.images[index] for index in indices]))
        size = Size(height=images.shape[1], width=images.shape[2])
        raw: RawDetections = network(normalize(images.to(device)))
        rows = [
            padded_targets(validation_set.labels[index], validation_set.negative_weights[index], MAX_PEOPLE)
            for index in indices
        ]
        targets = DetectionTargets(*(torch.stack(column).to(device) for column in zip(*rows, strict=True)))
        losses += [detection_loss(raw, targets, size).item()] * len(indices)
        for index, detections in zip(indices, decode(raw, size), strict=True):
            found[index] = _with_labels(detections, validation_set.labels[index], size)
    network.train(was_training)
    return [found[index] for index in range(len(found))], float(np.mean(losses))


def decode(raw: RawDetections, size: Size) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Predictions of N inputs of one size -> for each the boxes (M, 4) in input pixels, best first, and scores (M,)."""
    points, _ = boxes.points(size, STRIDES)
    all_scores = raw.logits.float().sigmoid().cpu().numpy()
    all_boxes = boxes.decode(points, raw.distances.float().cpu().numpy())
    found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for image_boxes, scores in zip(all_boxes, all_scores, strict=True):
        kept = detector_nms(image_boxes, scores)
        found.append((image_boxes[kept], scores[kept]))
    return found


def _with_labels(
    detections: tuple[NDArray[np.float32], NDArray[np.float32]], labels: SceneLabels, size: Size
) -> ImageDetections:
    return ImageDetections(*detections, labels.boxes_xyxy, labels.kinds == IGNORED, size.height)


def _batches_of_one_size(images: Sequence[Image]) -> list[list[int]]:
    """Inputs -> their indices in batches of one size."""
    by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_shape[image.shape].append(index)
    return [group[start : start + BATCH] for group in by_shape.values() for start in range(0, len(group), BATCH)]
