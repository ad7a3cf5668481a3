"""The validation set of a pose network and its scores: PCK, OKS and OKS accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.codecs.heatmap import Codec
from featherpose.codecs.keypoints import keypoints_of_crops
from featherpose.crop import Crop
from featherpose.data.cache import Crops
from featherpose.data.teacher import map_samples
from featherpose.evaluation.pck import pck, validation_oks
from featherpose.networks.preprocess import Normalize
from featherpose.oks import person_area
from featherpose.recipes.pose import PoseRecipe, PoseStage, PoseValidation
from featherpose.skeleton import Skeleton
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.tasks.pose_labels import PoseLabels

PCK_THRESHOLD = 0.05
"""A keypoint is correct within this fraction of the longer side of the person's box."""


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Crops (N, H, W, 3) of the validation set, not augmented, with their annotations in crop pixels."""

    crops: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    sides: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_coco: NDArray[np.bool_]
    skeleton: Skeleton
    codec: Codec
    validation: PoseValidation


def validation_set_of(labels: PoseLabels, stage: PoseStage, codec: Codec, recipe: PoseRecipe) -> ValidationSet:
    """The validation set at the input size of this stage, with human annotations only."""
    images_of = Crops.build(labels.samples, stage.input_size.height)
    rows = images_of.usable_rows(labels.validation_rows, "of the validation set")
    samples = [labels.samples[row] for row in rows]
    keypoints, visible = map_samples(labels.samples, labels.skeleton)
    keypoints = images_of.to_cache(keypoints)[rows]  # (N, K, 2) in pixels of the cached images
    boxes_xywh = images_of.boxes_to_cache(labels.boxes_xywh)[rows]
    crops = [Crop.from_box(box, stage.input_size, codec.crop_mode, recipe.padding) for box in xywh_to_xyxy(boxes_xywh)]
    zoom = np.array([crop.matrix[0, 0] for crop in crops])  # crop pixels per cached pixel
    pixels = [images.warp(images_of[row], crop.matrix, crop.size) for row, crop in zip(rows, crops, strict=True)]
    in_crop = [crop.to_crop(points) for crop, points in zip(crops, keypoints, strict=True)]
    areas = np.array([person_area(sample.area or None, sample.box_xywh) for sample in samples])
    return ValidationSet(
        crops=np.stack(pixels),
        keypoints=np.array(in_crop, np.float32),
        visible=visible[rows],
        sides=boxes_xywh[:, 2:].max(axis=1) * zoom,
        areas=areas * images_of.factors[rows].prod(axis=1) * zoom**2,
        is_coco=np.array([sample.skeleton.landmarks == "coco" for sample in samples], bool),
        skeleton=labels.skeleton,
        codec=codec,
        validation=recipe.validation,
    )


def validate(
    network: nn.Module, validation_set: ValidationSet, device: torch.device, ranks: Ranks = SINGLE_PROCESS
) -> dict[str, float]:
    """Network -> scores in percent: PCK over all samples; OKS and OKS accuracy (`evaluation.pck`) over those whose
    keypoints are defined as COCO's, if there are any. With several processes, all get them."""
    return _scores(predict_keypoints(network, validation_set, device, ranks), validation_set)


def predict_keypoints(
    network: nn.Module, validation_set: ValidationSet, device: torch.device, ranks: Ranks = SINGLE_PROCESS
) -> NDArray[np.float32]:
    """Network -> keypoints (N, K, 2) of the validation set, in crop pixels.

    With several processes, each predicts its share of the samples, and all get all keypoints.
    """
    crops = validation_set.crops[ranks.index :: ranks.count]
    keypoints, _ = keypoints_of_crops(
        lambda crops: predict(network, crops, device),
        crops,
        validation_set.codec,
        validation_set.skeleton.flip_order,
        flip_test=validation_set.validation.flip_test,
        blur_kernel=validation_set.validation.blur_kernel,
    )
    return ranks.gather(keypoints)


def _scores(predicted: NDArray[np.float32], validation_set: ValidationSet) -> dict[str, float]:
    coco = validation_set.is_coco
    scores = validation_oks(
        predicted[coco],
        validation_set.keypoints[coco],
        validation_set.visible[coco],
        validation_set.areas[coco],
        validation_set.skeleton.sigmas,
    )
    mean = pck(predicted, validation_set.keypoints, validation_set.visible, validation_set.sides, PCK_THRESHOLD).mean
    with_oks = {} if math.isnan(scores.oks) else {"oks_accuracy": 100 * scores.oks_accuracy, "oks": 100 * scores.oks}
    return {**with_oks, "pck": 100 * mean}


@torch.no_grad()
def predict(network: nn.Module, crops: NDArray[np.uint8], device: torch.device, batch: int = 64) -> NDArray[np.float32]:
    """Crops (N, H, W, 3) -> heatmaps (N, K, h, w), in eval mode; the network's mode is restored afterward."""
    normalize, was_training = Normalize().to(device), network.training
    network.eval()
    parts = [network(normalize(torch.from_numpy(crops[i : i + batch]).to(device))) for i in range(0, len(crops), batch)]
    network.train(was_training)
    return torch.cat(parts).float().cpu().numpy()
