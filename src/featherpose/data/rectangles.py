"""Order of scenes in batches of one input shape each: landscape, square or portrait.

A function of (seed, epoch, shapes, batch size) alone, as the order of samples is: a run resumes from a step number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featherpose.data.sample import ORDER, sample_generator
from featherpose.kinds import SIDE_MULTIPLE
from featherpose.size import Size

ASPECT = 3 / 4  # short side / long side: most photos are 4:3 or 3:2


def input_shapes(long_side: int) -> tuple[Size, Size, Size]:
    """Long side of the input in px, a multiple of 32 -> the sizes of landscape, square and portrait inputs."""
    short_side = math.ceil(long_side * ASPECT / SIDE_MULTIPLE) * SIDE_MULTIPLE
    return (
        Size(height=short_side, width=long_side),
        Size(height=long_side, width=long_side),
        Size(height=long_side, width=short_side),
    )


def shapes_of(image_sizes: Sequence[Size], long_side: int) -> NDArray[np.int64]:
    """Sizes of N images -> (N,) for each the index in `input_shapes` of the nearest in aspect ratio."""
    aspects = np.log([size.width / size.height for size in image_sizes])
    shapes = np.log([size.width / size.height for size in input_shapes(long_side)])
    return np.abs(aspects[:, None] - shapes).argmin(axis=1)


def num_batches(shapes_of_scenes: NDArray[np.int64], batch_size: int) -> int:
    """Shape index of each of N scenes (N,) -> number of batches per epoch."""
    return sum(_num_batches(count, batch_size) for count in np.bincount(shapes_of_scenes).tolist())


def epoch_batches(
    seed: int, epoch: int, shapes_of_scenes: NDArray[np.int64], batch_size: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """Seed, epoch and shape index of each of N scenes (N,) -> batches: shape index, draw numbers (batch_size,).

    Each scene occurs at least once. The last batch of a shape is filled up with other scenes of the shape: the number
    of a draw modulo N is the scene, and the second occurrence of a scene has the number scene + N, so that it is
    augmented differently. The number of batches is the same in every epoch.
    """
    rng = sample_generator(seed, epoch, ORDER)
    batches: list[tuple[int, NDArray[np.int64]]] = []
    for shape in np.unique(shapes_of_scenes).tolist():
        scenes = rng.permutation(np.flatnonzero(shapes_of_scenes == shape))
        numbers = np.arange(_num_batches(len(scenes), batch_size) * batch_size)
        draws = scenes[numbers % len(scenes)] + len(shapes_of_scenes) * (numbers // len(scenes))
        batches += [(shape, batch) for batch in draws.reshape(-1, batch_size)]
    return [batches[position] for position in rng.permutation(len(batches))]


def _num_batches(count: int, batch_size: int) -> int:
    return math.ceil(count / batch_size)
