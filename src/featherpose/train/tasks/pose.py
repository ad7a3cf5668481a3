"""The pose task: labelled crops -> joints and weights to train on; a network -> its scores on the validation part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.codecs import CODECS, Msra
from featherpose.crop import Crop
from featherpose.data.cache import Crops, Progress
from featherpose.data.folder import find_folder
from featherpose.data.sample import Sample, is_validation
from featherpose.data.shards import read_index
from featherpose.data.teacher import coco_targets, mapped, teacher_labels
from featherpose.errors import DataError
from featherpose.measure.coco import BOX_TO_OUTLINE
from featherpose.measure.pck import pck, validation_oks
from featherpose.networks.preprocess import Normalise
from featherpose.skeleton import SKELETONS, Skeleton
from featherpose.train.batches import People
from featherpose.train.recipe import Data, Recipe, Stage

PCK_THRESHOLD = 0.05
"""A joint is right within this part of the larger side of the person's box."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """All people of the recipe's folder: samples, joints (N, K, 2) in stored pixels, weights (N, K), both parts."""

    samples: list[Sample]
    keypoints: NDArray[np.float32]
    weights: NDArray[np.float32]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    skeleton: Skeleton


@dataclass(frozen=True, eq=False)
class Validation:
    """Plain crops (N, H, W, 3) of the validation part with what people labelled, in crop pixels."""

    crops: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    sides: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_coco: NDArray[np.bool_]
    skeleton: Skeleton
    codec: Msra


@dataclass(frozen=True, eq=False)
class Ready:
    """Everything that one stage trains and is judged on."""

    stage: Stage
    codec: Msra
    people: People
    validation: Validation


def prepare(recipe: Recipe, labelled: Labelled, stage: Stage, progress: Progress | None = None) -> Ready:
    """Both parts at the input size of a stage; pictures are decoded into the cache the first time."""
    codec = codec_of(recipe, stage)
    return Ready(stage, codec, people_of(labelled, stage, progress), validation_of(labelled, stage, codec))


def codec_of(recipe: Recipe, stage: Stage) -> Msra:
    """Recipe and stage -> the codec of that input size."""
    return CODECS[recipe.codec](stage.size, sigma=stage.sigma, unbiased=recipe.unbiased)


def read_people(recipe: Recipe) -> Labelled:
    """Recipe -> its people, split into the training and the validation part."""
    folder, data, skeleton = find_folder(recipe.data.folder), recipe.data, SKELETONS[recipe.skeleton]
    samples = [s for s in read_index(folder) if not data.sources or s.source in data.sources]
    keypoints, weights = _targets(samples, data, skeleton, folder)
    held_out = np.array([is_validation(sample.image) for sample in samples], bool)
    training = np.flatnonzero(~held_out & (weights > 0).any(axis=1))
    if not len(training):
        raise DataError(f"{folder}: no person to train on (sources {', '.join(data.sources) or 'all'}).")
    return Labelled(samples, keypoints, weights, training, np.flatnonzero(held_out), skeleton)


def people_of(labelled: Labelled, stage: Stage, progress: Progress | None = None) -> People:
    """The training part in the pixels of the crops cached for this stage."""
    crops = Crops.build(labelled.samples, stage.size[1], progress=progress)
    rows = labelled.training[crops.usable[labelled.training]]
    keypoints, boxes = crops.to_cache(labelled.keypoints), crops.boxes_to_cache(_boxes(labelled.samples))
    return People(crops, rows, keypoints[rows], labelled.weights[rows], boxes[rows], labelled.skeleton)


def validation_of(labelled: Labelled, stage: Stage, codec: Msra) -> Validation:
    """The validation part at this stage's size, with human labels alone."""
    crops = Crops.build(labelled.samples, stage.size[1])
    rows = labelled.validation[crops.usable[labelled.validation]]
    keypoints, visible = mapped(labelled.samples, labelled.skeleton)
    keypoints, boxes = crops.to_cache(keypoints)[rows], crops.boxes_to_cache(_boxes(labelled.samples))[rows]
    places = [Crop.from_box(box, stage.size, codec.crop_mode) for box in xywh_to_xyxy(boxes)]
    zoom = np.array([place.matrix[0, 0] for place in places])
    samples = [labelled.samples[row] for row in rows]
    return Validation(
        crops=np.stack([images.warp(crops[row], place) for row, place in zip(rows, places, strict=True)]),
        keypoints=np.array([place.to_crop(k) for place, k in zip(places, keypoints, strict=True)], np.float32),
        visible=visible[rows],
        sides=boxes[:, 2:].max(axis=1) * zoom,
        areas=np.array([_area(sample) for sample in samples]) * crops.factors[rows].prod(axis=1) * zoom**2,
        is_coco=np.array([sample.source == "coco" for sample in samples], bool),
        skeleton=labelled.skeleton,
        codec=codec,
    )


def validate(network: nn.Module, people: Validation, device: torch.device, batch: int = 64) -> dict[str, float]:
    """Network -> scores in percent: PCK over all people, OKS and the AP-like figure of `measure.pck` over COCO's."""
    heatmaps = predict(network, people.crops, device, batch)
    found, _ = people.codec.decode(heatmaps)
    coco = people.is_coco
    scores = validation_oks(
        found[coco], people.keypoints[coco], people.visible[coco], people.areas[coco], people.skeleton.sigmas
    )
    mean = pck(found, people.keypoints, people.visible, people.sides, PCK_THRESHOLD).mean
    return {"pck": 100 * mean, "oks": 100 * scores.oks, "ap": 100 * scores.ap}


@torch.no_grad()
def predict(network: nn.Module, crops: NDArray[np.uint8], device: torch.device, batch: int) -> NDArray[np.float32]:
    """Crops (N, H, W, 3) -> heatmaps (N, K, h, w), in eval mode; the network's mode is left as it was."""
    normalise, was_training = Normalise().to(device), network.training
    network.eval()
    parts = [network(normalise(torch.from_numpy(crops[i : i + batch]).to(device))) for i in range(0, len(crops), batch)]
    network.train(was_training)
    return torch.cat(parts).float().cpu().numpy()


def _targets(
    samples: list[Sample], data: Data, skeleton: Skeleton, folder: object
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if data.labels == "mixed":
        if skeleton.name != "coco17":
            raise DataError(f"labels: mixed fills COCO's joints only; skeleton {skeleton.name} needs labels: human.")
        targets = coco_targets(samples, teacher_labels(str(folder)), data.teacher_threshold)
        return targets.keypoints, targets.weights
    keypoints, visible = mapped(samples, skeleton)
    return keypoints, (visible > 0).astype(np.float32)


def _boxes(samples: list[Sample]) -> NDArray[np.float32]:
    return np.array([sample.box_xywh for sample in samples], np.float32).reshape(-1, 4)


def _area(sample: Sample) -> float:
    return sample.area or BOX_TO_OUTLINE * float(sample.box_xywh[2] * sample.box_xywh[3])
