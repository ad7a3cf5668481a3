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

from featherpose.codecs import Msra
from featherpose.data.augment import Augmentation, augment
from featherpose.data.cache import Crops
from featherpose.data.sample import epoch_order, sample_generator
from featherpose.skeleton import Skeleton
from featherpose.train.ranks import Ranks
from featherpose.train.recipe import Recipe
from featherpose.train.schedule import Epoch


@dataclass(frozen=True, eq=False)
class People:
    """N labelled people in the pixels of their cached pictures: joints (N, K, 2), weights (N, K), boxes (N, 4)."""

    crops: Crops
    rows: NDArray[np.int64]
    """(N,) their places in `crops`."""
    keypoints: NDArray[np.float32]
    weights: NDArray[np.float32]
    boxes_xywh: NDArray[np.float32]
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Examples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Person by number -> crop uint8 (H, W, 3), heatmaps (K, h, w), weights (K,), as augmented in this epoch."""

    people: People
    codec: Msra
    augmentation: Augmentation
    seed: int
    epoch: int

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        people = self.people
        crop, keypoints, weights = augment(
            people.crops[int(people.rows[index])],
            people.keypoints[index],
            people.weights[index],
            people.boxes_xywh[index],
            people.skeleton,
            self.codec.size,
            self.augmentation,
            sample_generator(self.seed, self.epoch, index),
            self.codec.crop_mode,
        )
        heatmaps, inside = self.codec.encode(keypoints, weights)
        return torch.from_numpy(crop), torch.from_numpy(heatmaps), torch.from_numpy(inside * weights)


def batches(
    people: People, codec: Msra, recipe: Recipe, epoch: Epoch, step: int, workers: int, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The batches of an epoch from the run's `step` on: crops (B, H, W, 3), heatmaps (B, K, h, w), weights (B, K).

    Of several processes each gets its share of every batch.
    """
    order = epoch_order(recipe.seed, epoch.number, len(people))
    size = epoch.stage.batch
    whole = [order[i * size : (i + 1) * size].tolist() for i in range(step - epoch.first, epoch.steps)]
    rows = [batch[ranks.index :: ranks.count] for batch in whole]
    examples = Examples(people, codec, recipe.augmentation, recipe.seed, epoch.number)
    return iter(DataLoader(examples, batch_sampler=rows, num_workers=workers, worker_init_fn=_settle))


def _settle(_: int) -> None:
    """A worker leaves Ctrl-C to the run, which ends after the step it is in, and the other cores to the network."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
