"""Batches: people drawn in the order of an epoch, augmented and encoded by a worker process.

What a batch holds is a function of (seed, epoch, index) alone, so a run goes on from a step number.
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
    """N labelled people in the pixels of their cached pictures, with T opinions about the joints of each."""

    crops: Crops
    rows: NDArray[np.int64]
    """(N,) their places in `crops`."""
    keypoints: NDArray[np.float32]
    """(N, T, K, 2)."""
    weights: NDArray[np.float32]
    """(N, T, K)."""
    boxes_xywh: NDArray[np.float32]
    skeleton: Skeleton
    label_weights: tuple[float, ...] = (1.0,)
    """(T,) shares of the opinions in the target."""
    sampling_weights: NDArray[np.float64] | None = None
    """(N,) how often each is seen in an epoch; None: once."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class SampleDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Person by number of the draw -> crop uint8 (H, W, 3), heatmaps (K, h, w), weights (K,), augmented for it."""

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
    """T opinions, heatmaps (T, K, h, w) and weights (T, K) -> their mean by trust x weight (K, h, w), weights (K,)."""
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

    Of several processes each gets its share of every batch. `pin` keeps them where a GPU fetches them from by itself.
    """
    order = epoch_order(recipe.seed, epoch.number, len(samples), samples.sampling_weights)
    size = epoch.stage.batch_size
    if epoch.steps > 1:  # people whose picture could not be decoded are missing here, not in the plan
        order = np.resize(order, epoch.steps * size)
    whole = [order[i * size : (i + 1) * size].tolist() for i in range(step - epoch.first, epoch.steps)]
    rows = [batch[ranks.index :: ranks.count] for batch in whole]
    examples = SampleDataset(samples, codec, recipe.augmentation, recipe.seed, epoch.number)
    loader = DataLoader(examples, batch_sampler=rows, num_workers=workers, pin_memory=pin, worker_init_fn=_init_worker)
    return iter(loader)


def _init_worker(_: int) -> None:
    """A worker leaves Ctrl-C to the run, which ends after the step it is in, and the other cores to the network."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
