"""The training set of a person detector: augmented images and mosaics with the boxes and keypoints of all people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from featherpose.data.cache import Crops
from featherpose.data.color import happens
from featherpose.data.rectangles import epoch_batches
from featherpose.data.sample import sample_generator
from featherpose.data.scene import Scene
from featherpose.data.scene_augment import Image, SceneAugmentation, SceneLabels, augment_scene, mosaic
from featherpose.recipes.schedule import Epoch
from featherpose.size import Size

MAX_PEOPLE = 100
"""Rows of the labels of one input; COCO labels at most about twenty people per image, a mosaic shows four images."""

ShapedDraw = tuple[int, int, int]
"""Number of the epoch, index of the input's shape, draw number (modulo the number of scenes: the scene)."""


@dataclass(frozen=True, eq=False)
class SceneSet:
    """N scenes for training, with their decoded images."""

    scenes: Sequence[Scene]
    crops: Crops
    rows: NDArray[np.int64]
    """(N,) their indices in `crops`."""
    shapes: NDArray[np.int64]
    """(N,) index of each scene's input shape in `rectangles.input_shapes`."""

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Image, SceneLabels]:
        """Index of a scene -> its image, RGB uint8 (h, w, 3), and its labels in pixels of that image."""
        row = int(self.rows[index])
        return self.crops[row], SceneLabels.of(self.scenes[index], self.crops.factors[row])


@dataclass(frozen=True, eq=False)
class SceneDataset(Dataset[tuple[Tensor, ...]]):
    """Draw -> input uint8 (H, W, 3) and the fields of `DetectionTargets` with `MAX_PEOPLE` rows."""

    scenes: SceneSet
    sizes: Sequence[Size]
    """Input size of each shape."""
    augmentation: SceneAugmentation
    mosaic_prob: float
    seed: int

    def __getitem__(self, draw: ShapedDraw) -> tuple[Tensor, ...]:
        epoch, shape, number = draw
        rng = sample_generator(self.seed, epoch, number)
        index = number % len(self.scenes)
        size = self.sizes[shape]
        if happens(self.mosaic_prob, rng):
            chosen = [index, *rng.integers(0, len(self.scenes), 3).tolist()]
            image, labels = mosaic([self.scenes[i] for i in chosen], size, self.augmentation, rng)
        else:
            chosen = [index]
            image, labels = augment_scene(*self.scenes[index], size, self.augmentation, rng)
        negative_weight = min(self.scenes.scenes[i].negative_weight for i in chosen)
        return torch.from_numpy(image), *padded_targets(labels, negative_weight, MAX_PEOPLE)


def padded_targets(labels: SceneLabels, negative_weight: float, rows: int) -> tuple[Tensor, ...]:
    """Labels of one image -> the fields of `DetectionTargets` for it, filled up or cut to that number of rows."""
    arrays = (
        labels.boxes_xyxy.astype(np.float32),
        labels.kinds.astype(np.int8),
        labels.keypoints.astype(np.float32),
        labels.visibility.astype(np.uint8),
        labels.areas.astype(np.float32),
    )
    tensors: list[Tensor] = []
    for array in arrays:
        padded = np.zeros((rows, *array.shape[1:]), array.dtype)
        padded[: len(array)] = array[:rows]
        tensors.append(torch.from_numpy(padded))
    return *tensors, torch.tensor(negative_weight, dtype=torch.float32)


def scene_draws(scenes: SceneSet, seed: int, epoch: Epoch) -> list[list[ShapedDraw]]:
    """Training set, seed and epoch -> the draws of each of its batches, all of one input shape."""
    batches = epoch_batches(seed, epoch.number, scenes.shapes, epoch.stage.batch_size)
    # Scenes whose image cannot be decoded are missing here, but counted in the plan.
    planned = [batches[step % len(batches)] for step in range(epoch.steps)]
    return [[(epoch.number, shape, number) for number in draws.tolist()] for shape, draws in planned]
