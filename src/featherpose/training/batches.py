"""Batches: samples in the order of an epoch, augmented and encoded in worker processes.

The content of a batch is a function of (seed, epoch, index) alone, so a run resumes from a step number.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featherpose.codecs.heatmap import Codec
from featherpose.data.augment import Augmentation, augment
from featherpose.data.cache import Crops
from featherpose.data.sample import epoch_order, sample_generator
from featherpose.recipes.recipe import Recipe
from featherpose.recipes.schedule import Epoch
from featherpose.skeleton import Skeleton
from featherpose.training.ranks import Ranks


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

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class SampleDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Draw number -> augmented crop uint8 (H, W, 3), heatmaps (K, h, w), weights (K,); draw modulo N is the sample."""

    samples: TrainingSet
    codec: Codec
    augmentation: Augmentation
    seed: int
    epoch: int

    def __getitem__(self, draw: int) -> tuple[Tensor, Tensor, Tensor]:
        samples, index = self.samples, draw % len(self.samples)
        crop, keypoints, weights = augment(
            samples.crops[int(samples.rows[index])],
            samples.keypoints[index],
            samples.weights[index],
            samples.boxes_xywh[index],
            samples.skeleton,
            self.codec.size,
            self.augmentation,
            sample_generator(self.seed, self.epoch, draw),
            self.codec.crop_mode,
        )
        heatmaps, inside = self.codec.encode(keypoints, weights)
        target, weight = blend(heatmaps, inside * weights, samples.label_weights)
        return torch.from_numpy(crop), torch.from_numpy(target), torch.from_numpy(weight)


def blend(
    heatmaps: NDArray[np.float32], weights: NDArray[np.float32], label_weights: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heatmaps (T, K, h, w) and weights (T, K) of T label sets -> target (K, h, w) and weights (K,).

    The target is the mean of the heatmaps, weighted by `label_weights` times `weights`.
    """
    if len(label_weights) == 1:
        return heatmaps[0], weights[0]
    shares = np.array(label_weights, np.float32)[:, None] * weights
    shares = shares / np.maximum(shares.sum(axis=0), 1e-9)
    return (shares[..., None, None] * heatmaps).sum(axis=0), weights.max(axis=0)


def batches(
    samples: TrainingSet,
    codec: Codec,
    recipe: Recipe,
    epoch: Epoch,
    step: int,
    workers: int,
    ranks: Ranks,
    pin: bool = False,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The batches of an epoch from the run's `step` on: crops (B, H, W, 3), heatmaps (B, K, h, w), weights (B, K).

    With several processes, each gets its share of every batch. `pin` puts batches into pinned memory for a GPU.
    """
    order = epoch_order(recipe.seed, epoch.number, len(samples), samples.sampling_weights)
    size = epoch.stage.batch_size
    if epoch.steps > 1:  # samples whose image cannot be decoded are missing here, but counted in the plan
        order = np.resize(order, epoch.steps * size)
    global_batches = [order[i * size : (i + 1) * size].tolist() for i in range(step - epoch.first, epoch.steps)]
    local_batches = [batch[ranks.index :: ranks.count] for batch in global_batches]
    dataset = SampleDataset(samples, codec, recipe.augmentation, recipe.seed, epoch.number)
    loader = DataLoader(
        dataset, batch_sampler=local_batches, num_workers=workers, pin_memory=pin, worker_init_fn=_init_worker
    )
    return iter(loader)


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C, so that the run can finish the current step, and use one thread: the network needs the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
