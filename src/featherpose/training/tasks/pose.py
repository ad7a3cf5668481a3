"""The pose task: labeled crops -> keypoints and weights for training; network -> its scores on the validation set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Codec
from featherpose.codecs.keypoints import keypoints_of_crops
from featherpose.crop import Crop
from featherpose.data.cache import Crops, Progress
from featherpose.data.folder import find_data
from featherpose.data.sample import Sample, epoch_length, is_validation, possible_val_fraction
from featherpose.data.samples import labeled_samples
from featherpose.data.teacher import coco_targets, map_samples, pseudo_targets, teacher_labels
from featherpose.errors import DataError
from featherpose.evaluation.pck import pck, validation_oks
from featherpose.networks import stride_of
from featherpose.networks.preprocess import Normalize
from featherpose.oks import person_area
from featherpose.recipes.recipe import Data, Recipe, Stage, Validation
from featherpose.skeleton import COCO17, Skeleton, find_skeleton
from featherpose.training.batches import TrainingSet
from featherpose.training.distill import LABELS
from featherpose.training.ranks import SINGLE_PROCESS, Ranks

PCK_THRESHOLD = 0.05
"""A keypoint is correct within this fraction of the longer side of the person's box."""


@dataclass(frozen=True, eq=False)
class LabeledSet:
    """All samples of the recipe's data set, T label sets for each, and the rows of the training and validation set."""

    samples: list[Sample]
    keypoints: NDArray[np.float32]
    """(N, T, K, 2) in stored pixels."""
    weights: NDArray[np.float32]
    """(N, T, K)."""
    training_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    skeleton: Skeleton
    label_weights: tuple[float, ...] = (1.0,)
    """(T,) weights of the label sets in the target."""

    sampling_weights: NDArray[np.float64] | None = None
    """(len(training_rows),) how often each sample is drawn per epoch; None: once."""
    notes: tuple[str, ...] = ()
    """Remarks about the data set for the user, one sentence each."""

    @property
    def epoch_length(self) -> int:
        """Samples drawn per epoch, including repetitions."""
        return len(self.training_rows) if self.sampling_weights is None else epoch_length(self.sampling_weights)


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
    validation: Validation


@dataclass(frozen=True, eq=False)
class StageData:
    """Training and validation data of one stage."""

    stage: Stage
    codec: Codec
    training_set: TrainingSet
    validation_set: ValidationSet
    unreadable: int
    """Samples of both sets whose image could not be decoded."""


def prepare(recipe: Recipe, labeled: LabeledSet, stage: Stage, progress: Progress | None = None) -> StageData:
    """Training and validation set at the input size of a stage; the first time, images are decoded into the cache."""
    codec = codec_of(recipe, stage)
    training_set = training_set_of(labeled, stage, progress)
    validation = validation_set_of(labeled, stage, codec, recipe.validation)
    return StageData(stage, codec, training_set, validation, int(np.count_nonzero(~training_set.crops.usable)))


def codec_of(recipe: Recipe, stage: Stage) -> Codec:
    """Recipe and stage -> the codec at that input size."""
    codec_options = {"unbiased": recipe.unbiased} if recipe.codec == "msra" else {}
    return CODECS[recipe.codec](stage.input_size, stride=stride_of(recipe.network), sigma=stage.sigma, **codec_options)


def read_samples(recipe: Recipe) -> LabeledSet:
    """Recipe -> its samples, split into training and validation set.

    DataError for a missing data set, a set without samples, or labels that do not fit the skeleton.
    """
    folder, data = find_data(recipe.data.folder), recipe.data
    all_samples, notes = labeled_samples(folder)
    samples = [s for s in all_samples if not data.sources or s.source in data.sources]
    if not samples:
        raise DataError(f"{folder}: no samples to train on (sources {', '.join(data.sources) or 'all'}).")
    skeleton = _skeleton(recipe.skeleton, samples)
    keypoints, weights = _label_sets(samples, recipe, skeleton, folder)
    held_out = np.array([is_validation(sample.image, data.val_fraction) for sample in samples], bool)
    training = np.flatnonzero(~held_out & (weights > 0).any(axis=(1, 2)))
    if held_out.all() or not held_out.any():
        raise DataError(f"{folder}: {_one_sided_split([sample.image for sample in samples], data.val_fraction)}")
    if not len(training):
        raise DataError(f"{folder}: none of {len(samples)} samples has a keypoint of {skeleton.name} to train on.")
    label_weights = (1 - recipe.distill.weight, recipe.distill.weight) if keypoints.shape[1] == 2 else (1.0,)
    sampling_weights = _sampling_weights([samples[row].source for row in training], data)
    validation = np.flatnonzero(held_out)
    return LabeledSet(
        samples, keypoints, weights, training, validation, skeleton, label_weights, sampling_weights, tuple(notes)
    )


def _one_sided_split(image_names: list[str], val_fraction: float) -> str:
    """Names of images that all fall into the same set -> error message that says what to do."""
    problem = f"all {len(set(image_names))} images fall into the same split with data.val_fraction={val_fraction:g}"
    suggested = possible_val_fraction(image_names)
    return f"{problem}; " + (f"set data.val_fraction={suggested}." if suggested else "annotate more images.")


def training_set_of(labeled: LabeledSet, stage: Stage, progress: Progress | None = None) -> TrainingSet:
    """The training set in pixels of the crops cached for this stage."""
    crops = Crops.build(labeled.samples, stage.input_size.height, progress=progress)
    usable = crops.usable[labeled.training_rows]
    rows = labeled.training_rows[usable]
    return TrainingSet(
        crops,
        rows,
        np.stack([crops.to_cache(label_set)[rows] for label_set in labeled.keypoints.swapaxes(0, 1)], axis=1),
        labeled.weights[rows],
        crops.boxes_to_cache(_boxes(labeled.samples))[rows],
        labeled.skeleton,
        labeled.label_weights,
        None if labeled.sampling_weights is None else labeled.sampling_weights[usable],
    )


def validation_set_of(labeled: LabeledSet, stage: Stage, codec: Codec, validation: Validation) -> ValidationSet:
    """The validation set at the input size of this stage, with human annotations only."""
    crops = Crops.build(labeled.samples, stage.input_size.height)
    rows = labeled.validation_rows[crops.usable[labeled.validation_rows]]
    keypoints, visible = map_samples(labeled.samples, labeled.skeleton)
    keypoints, boxes = crops.to_cache(keypoints)[rows], crops.boxes_to_cache(_boxes(labeled.samples))[rows]
    transforms = [Crop.from_box(box, stage.input_size, codec.crop_mode) for box in xywh_to_xyxy(boxes)]
    zoom = np.array([transform.matrix[0, 0] for transform in transforms])
    samples = [labeled.samples[row] for row in rows]
    return ValidationSet(
        crops=np.stack(
            [images.warp(crops[row], crop.matrix, crop.size) for row, crop in zip(rows, transforms, strict=True)]
        ),
        keypoints=np.array(
            [transform.to_crop(k) for transform, k in zip(transforms, keypoints, strict=True)], np.float32
        ),
        visible=visible[rows],
        sides=boxes[:, 2:].max(axis=1) * zoom,
        areas=np.array([_area(sample) for sample in samples]) * crops.factors[rows].prod(axis=1) * zoom**2,
        is_coco=np.array([sample.skeleton.landmarks == "coco" for sample in samples], bool),
        skeleton=labeled.skeleton,
        codec=codec,
        validation=validation,
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


def _sampling_weights(sources: list[str], data: Data) -> NDArray[np.float64] | None:
    """Sources of the training samples -> how often each is drawn per epoch; None if all are drawn once."""
    unknown = sorted(set(data.sampling_weights) - set(sources))
    if unknown:
        raise DataError(
            f"data.sampling_weights: no sample of {', '.join(unknown)}; sources are {', '.join(sorted(set(sources)))}."
        )
    sampling_weights = np.array([data.sampling_weights.get(source, 1.0) for source in sources])
    return None if (sampling_weights == 1).all() else sampling_weights


def _skeleton(name: str, samples: list[Sample]) -> Skeleton:
    """The recipe's `skeleton` (a known name, a YAML file, or "data" for the one of all samples) -> skeleton."""
    if name != "data":
        return find_skeleton(name)
    skeletons = {sample.skeleton.name: sample.skeleton for sample in samples}
    if len(skeletons) > 1:
        raise DataError(
            f"skeleton: data, but the data set has several ({', '.join(sorted(skeletons))}); name one of them."
        )
    return next(iter(skeletons.values()))


def _label_sets(
    samples: list[Sample], recipe: Recipe, skeleton: Skeleton, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Labels, and pseudo-labels as a second set for distillation: keypoints (N, T, K, 2) and weights (N, T, K)."""
    labels = _targets(samples, recipe.data, skeleton, folder)
    if recipe.distill.teacher != LABELS:
        return labels[0][:, None], labels[1][:, None]
    _require_coco_keypoints("distill.teacher=labels", skeleton)
    second = pseudo_targets(samples, teacher_labels(folder), recipe.data.teacher_threshold)
    return np.stack([labels[0], second.keypoints], axis=1), np.stack([labels[1], second.weights], axis=1)


def _targets(
    samples: list[Sample], data: Data, skeleton: Skeleton, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if data.labels == "ground_truth":
        keypoints, visible = map_samples(samples, skeleton)
        return keypoints, (visible > 0).astype(np.float32)
    _require_coco_keypoints(f"data.labels={data.labels}", skeleton)
    make_targets = pseudo_targets if data.labels == "pseudo" else coco_targets
    targets = make_targets(samples, teacher_labels(folder), data.teacher_threshold)
    return targets.keypoints, targets.weights


def _require_coco_keypoints(what: str, skeleton: Skeleton) -> None:
    if skeleton.keypoint_names != COCO17.keypoint_names:
        raise DataError(
            f"{what} supports COCO's keypoints only; skeleton {skeleton.name} needs data.labels=ground_truth and no "
            "distill.teacher=labels."
        )


def _boxes(samples: list[Sample]) -> NDArray[np.float32]:
    return np.array([sample.box_xywh for sample in samples], np.float32).reshape(-1, 4)


def _area(sample: Sample) -> float:
    return person_area(sample.area or None, sample.box_xywh)
