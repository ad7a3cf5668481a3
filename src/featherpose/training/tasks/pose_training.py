"""The training set of a pose network: augmented crops with target heatmaps, and their order in an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from featherpose.codecs.heatmap import Codec
from featherpose.crop import PADDING
from featherpose.data.augment import Augmentation, augment
from featherpose.data.cache import Crops
from featherpose.data.sample import epoch_order, sample_generator
from featherpose.recipes.pose import PoseStage
from featherpose.recipes.schedule import Epoch
from featherpose.skeleton import Skeleton
from featherpose.training.task import Batch, Progress
from featherpose.training.tasks.pose_labels import PoseLabels

Draw = tuple[int, int]
"""Number of the epoch, draw number in it (modulo the number of samples: the sample)."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """N labeled samples in pixels of their cached crops, with T label sets (annotations, pseudo-labels) for each."""

    crops: Crops
    rows: NDArray[np.int64]
    """(N,) their indices in `crops`."""
    keypoints: NDArray[np.float32]
    """(N, T, K, 2)."""
    weights: NDArray[np.float32]
    """(N, T, K)."""
    boxes_xywh: NDArray[np.float32]
    skeleton: Skeleton
    label_weights: tuple[float, ...] = (1.0,)
    """(T,) weights of the label sets in the target."""
    sampling_weights: NDArray[np.float64] | None = None
    """(N,) how often each sample is drawn per epoch; None: once."""
    padding: float = PADDING
    """Size of the crop relative to the box."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class SampleDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Draw -> augmented crop uint8 (H, W, 3), and what `draw_targets` needs: down (T, K, h), across (T, K, w), weights
    (T, K)."""

    samples: TrainingSet
    codec: Codec
    augmentation: Augmentation
    seed: int

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        epoch, number = draw
        samples = self.samples
        index = number % len(samples)
        crop, keypoints, weights = augment(
            samples.crops[int(samples.rows[index])],
            samples.keypoints[index],
            samples.weights[index],
            samples.boxes_xywh[index],
            samples.skeleton,
            self.codec.size,
            self.augmentation,
            sample_generator(self.seed, epoch, number),
            self.codec.crop_mode,
            samples.padding,
        )
        down, across, inside = self.codec.profiles(keypoints, weights)
        parts = (crop, down, across, inside * weights)
        return tuple(map(torch.from_numpy, parts))  # pyright: ignore[reportReturnType]


def draw_targets(targets: Batch, label_weights: tuple[float, ...] = (1.0,)) -> tuple[Tensor, Tensor]:
    """Profiles down (B, T, K, h), across (B, T, K, w), weights (B, T, K) of T label sets -> heatmaps (B, K, h, w) and
    weights (B, K), on the device of the profiles.

    The target is the mean of the heatmaps of the label sets, weighted by `label_weights` times `weights`.
    """
    down, across, weights = targets
    heatmaps = down[..., :, None] * across[..., None, :]  # (B, T, K, h, w)
    if len(label_weights) == 1:
        return heatmaps[:, 0], weights[:, 0]
    shares = weights * weights.new_tensor(label_weights)[:, None]  # (B, T, K)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return (shares[..., None, None] * heatmaps).sum(dim=1), weights.amax(dim=1)


def batch_draws(samples: TrainingSet, seed: int, epoch: Epoch) -> list[list[Draw]]:
    """Training set, seed and epoch -> the draws of each of its batches."""
    order = epoch_order(seed, epoch.number, len(samples), samples.sampling_weights)
    size = epoch.stage.batch_size
    if epoch.steps > 1:  # samples whose image cannot be decoded are missing here, but counted in the plan
        order = np.resize(order, epoch.steps * size)
    draws = [(epoch.number, number) for number in order.tolist()]
    return [draws[step * size : (step + 1) * size] for step in range(epoch.steps)]


def training_set_of(
    labels: PoseLabels,
    stage: PoseStage,
    padding: float,
    progress: Progress | None = None,
    *,
    rebuild_cache: bool = False,
) -> TrainingSet:
    """The training set in pixels of the crops cached for this stage."""
    crops = Crops.build(labels.samples, stage.input_size.height, progress=progress, rebuild=rebuild_cache)
    usable = crops.usable[labels.training_rows]
    rows = crops.usable_rows(labels.training_rows, "of the training set")
    keypoints = [crops.to_cache(label_set)[rows] for label_set in labels.keypoints.swapaxes(0, 1)]
    return TrainingSet(
        crops=crops,
        rows=rows,
        keypoints=np.stack(keypoints, axis=1),
        weights=labels.weights[rows],
        boxes_xywh=crops.boxes_to_cache(labels.boxes_xywh)[rows],
        skeleton=labels.skeleton,
        label_weights=labels.label_weights,
        sampling_weights=None if labels.sampling_weights is None else labels.sampling_weights[usable],
        padding=padding,
    )
