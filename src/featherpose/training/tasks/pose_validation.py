"""The validation set of a pose network and its scores: PCK, OKS and OKS accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import images
from featherpose.boxes import BOX_TO_OUTLINE, xywh_to_xyxy
from featherpose.codecs.heatmap import Codec, gaussian_filter, merge_flipped
from featherpose.crop import Crop
from featherpose.data.cache import Crops
from featherpose.data.sample import Sample
from featherpose.data.teacher import map_samples
from featherpose.evaluation.pck import pck, validation_oks
from featherpose.networks.preprocess import Normalize
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
    crops = Crops.build(labels.samples, stage.input_size.height)
    rows = labels.validation_rows[crops.usable[labels.validation_rows]]
    keypoints, visible = map_samples(labels.samples, labels.skeleton)
    keypoints, boxes = crops.to_cache(keypoints)[rows], crops.boxes_to_cache(labels.boxes_xywh)[rows]
    transforms = [Crop.from_box(box, stage.input_size, codec.crop_mode, recipe.padding) for box in xywh_to_xyxy(boxes)]
    zoom = np.array([transform.matrix[0, 0] for transform in transforms])
    samples = [labels.samples[row] for row in rows]
    return ValidationSet(
        crops=np.stack([images.warp(crops[row], transform) for row, transform in zip(rows, transforms, strict=True)]),
        keypoints=np.array(
            [transform.to_crop(k) for transform, k in zip(transforms, keypoints, strict=True)], np.float32
        ),
        visible=visible[rows],
        sides=boxes[:, 2:].max(axis=1) * zoom,
        areas=np.array([_area(sample) for sample in samples]) * crops.factors[rows].prod(axis=1) * zoom**2,
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
    heatmaps = predict(network, crops, device)
    if validation_set.validation.flip_test:
        flipped = predict(network, crops[:, :, ::-1].copy(), device)
        heatmaps = merge_flipped(
            heatmaps, flipped, validation_set.skeleton.flip_order, shift=validation_set.codec.flip_shift
        )
    if validation_set.validation.blur_kernel:
        heatmaps = gaussian_filter(heatmaps, validation_set.validation.blur_kernel)
    return ranks.gather(validation_set.codec.decode(heatmaps)[0])


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


def _area(sample: Sample) -> float:
    return sample.area or BOX_TO_OUTLINE * float(sample.box_xywh[2] * sample.box_xywh[3])
