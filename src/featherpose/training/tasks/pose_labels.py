"""The labels of a pose data set: one or several label sets for each sample, split into training and validation set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.data.datasets import find_place
from featherpose.data.sample import Sample, epoch_length, is_validation, possible_val_fraction
from featherpose.data.samples import labeled_samples, with_keypoint_boxes
from featherpose.data.teacher import coco_targets, map_samples, pseudo_targets, teacher_labels
from featherpose.errors import DataError
from featherpose.recipes.pose import PoseData, PoseRecipe
from featherpose.records import Tally
from featherpose.skeleton import COCO17, Skeleton, find_skeleton
from featherpose.training.distill import LABELS

_NO_KEYPOINT = "without a keypoint of the skeleton"
_NO_PAIRS = (
    "Warning: no keypoint names a left or right side, but images are flipped: if two of them are a pair, name them so"
    " (left_ankle, right_ankle), or set augmentation.flip_prob=0."
)


@dataclass(frozen=True, eq=False)
class PoseLabels:
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
    num_left_out: int = 0
    """Annotations, or records of shards, that are not used."""

    @property
    def boxes_xywh(self) -> NDArray[np.float32]:
        """(N, 4) boxes of all samples in stored pixels."""
        return np.array([sample.box_xywh for sample in self.samples], np.float32).reshape(-1, 4)

    @property
    def epoch_length(self) -> int:
        """Samples drawn per epoch, including repetitions."""
        return len(self.training_rows) if self.sampling_weights is None else epoch_length(self.sampling_weights)


def read_labels(recipe: PoseRecipe) -> PoseLabels:
    """Recipe -> its samples, split into training and validation set.

    DataError for a missing data set, a set without samples, or labels that do not fit the skeleton.
    """
    data = recipe.data
    folder = find_place(data.folder)
    tally = Tally("records")
    samples, notes = _read_samples(folder, data, "train", tally)
    skeleton = _skeleton(recipe.skeleton, samples)
    if recipe.augmentation.flip_prob and not skeleton.flip_pairs and skeleton.num_keypoints > 1:
        notes = [*notes, _NO_PAIRS]
    if data.val_folder:
        val_folder = find_place(data.val_folder)
        val_samples, val_notes = _read_samples(val_folder, data, "validate", tally)
        _require_fit(val_samples, val_folder, skeleton, samples, folder)
        held_out = np.repeat([False, True], [len(samples), len(val_samples)])
        samples = [*samples, *val_samples]
        notes = [*notes, *val_notes]
    else:
        held_out = np.array([is_validation(sample.image, data.val_fraction) for sample in samples], bool)
        if held_out.all() or not held_out.any():
            problem = _one_sided_split([sample.image for sample in samples], data.val_fraction)
            raise DataError(f"{folder}: {problem}{_left_out(tally)}")
    samples = with_keypoint_boxes(samples, data.keypoint_boxes)
    keypoints, weights = _label_sets(samples, recipe, skeleton, folder)
    training = np.flatnonzero(~held_out & (weights > 0).any(axis=(1, 2)))
    if not len(training):
        raise DataError(f"{folder}: none of {len(samples)} samples has a keypoint of {skeleton.name} to train on.")
    label_weights = (1 - recipe.distill.weight, recipe.distill.weight) if keypoints.shape[1] == 2 else (1.0,)
    sampling_weights = _sampling_weights([samples[row].source for row in training], data)
    validation = np.flatnonzero(held_out)
    for row in np.flatnonzero(~held_out & ~(weights > 0).any(axis=(1, 2))).tolist():
        tally.leave_out(_NO_KEYPOINT, samples[row].key)
    unused = len(samples) - len(training) - len(validation)
    if unused:
        first = next(group.first for group in tally.counts().left_out if group.reason == _NO_KEYPOINT)
        notes = [*notes, f"{unused} samples {_NO_KEYPOINT} are not trained on (first {first})."]
    return PoseLabels(
        samples,
        keypoints,
        weights,
        training,
        validation,
        skeleton,
        label_weights,
        sampling_weights,
        tuple(notes),
        tally.left_out,
    )


def _read_samples(place: Path, data: PoseData, purpose: str, tally: Tally) -> tuple[list[Sample], list[str]]:
    """Data set and what is used of it -> its samples and notes; DataError where no sample is left.

    `tally` counts the records that are left out, not those of sources that the recipe does not name.
    """
    found, notes = labeled_samples(place, data.category, strict=data.strict, tally=tally)
    samples = [sample for sample in found if not data.sources or sample.source in data.sources]
    if not samples:
        seen = Counter(sample.source for sample in found)
        sources = ", ".join(f"{count} of {source}" for source, count in seen.items()) or "none"
        wanted = ", ".join(data.sources) or "all"
        raise DataError(f"{place}: no samples to {purpose} on: data.sources is {wanted}, the samples are {sources}.")
    return samples, notes


def _require_fit(
    val_samples: list[Sample], val_folder: Path, skeleton: Skeleton, samples: list[Sample], folder: Path
) -> None:
    """DataError where the validation set shares images with the training set, or labels none of the keypoints."""
    shared = sorted({sample.image for sample in val_samples} & {sample.image for sample in samples})
    if shared:
        raise DataError(
            f"{len(shared)} images are in both {folder} and {val_folder}, first {shared[0]}; remove them from one of "
            "the two: scores on images that were trained on are too high."
        )
    if not map_samples(val_samples, skeleton)[1].any():
        raise DataError(
            f"{val_folder}: none of {len(val_samples)} samples has a keypoint of {skeleton.name} to validate on."
        )


def _left_out(tally: Tally) -> str:
    """The records that are left out, a sentence for the end of a message; "" where there are none."""
    groups = tally.counts().left_out
    return f" Left out: {', '.join(map(str, groups))}." if groups else ""


def _one_sided_split(image_names: list[str], val_fraction: float) -> str:
    """Names of images that all fall into the same set -> error message that says what to do."""
    problem = f"all {len(set(image_names))} images fall into the same split with data.val_fraction={val_fraction:g}"
    suggested = possible_val_fraction(image_names)
    return f"{problem}; " + (f"set data.val_fraction={suggested}." if suggested else "annotate more images.")


def _sampling_weights(sources: list[str], data: PoseData) -> NDArray[np.float64] | None:
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
    samples: list[Sample], recipe: PoseRecipe, skeleton: Skeleton, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Labels, and pseudo-labels as a second set for distillation: keypoints (N, T, K, 2) and weights (N, T, K)."""
    labels = _targets(samples, recipe.data, skeleton, folder)
    if recipe.distill.teacher != LABELS:
        return labels[0][:, None], labels[1][:, None]
    _require_coco_keypoints("distill.teacher=labels", skeleton)
    second = pseudo_targets(samples, teacher_labels(folder), recipe.data.teacher_threshold)
    return np.stack([labels[0], second.keypoints], axis=1), np.stack([labels[1], second.weights], axis=1)


def _targets(
    samples: list[Sample], data: PoseData, skeleton: Skeleton, folder: Path
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
