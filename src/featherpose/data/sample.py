"""One sample (a labeled person), the split into training and validation set, sample order and random generators.

Order and augmentation are pure functions of (seed, epoch, index): a run that is resumed or distributed over more
workers sees every sample exactly as an uninterrupted run with one worker does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import DataError
from featherpose.size import Size
from featherpose.skeleton import Skeleton

ORDER = 0xFFFF_FFFF  # an index that no sample has: its generator shuffles the epoch


@dataclass(frozen=True)
class Region:
    """A region of an original image of `size`: position of its top-left pixel there."""

    left: int
    top: int
    size: Size


@dataclass(frozen=True)
class Location:
    """Location of one encoded image: `nbytes` bytes at `offset` in the file `path`.

    Where this is a whole original image, `region` is the part of it that is the stored image of the sample.
    """

    path: Path
    offset: int
    nbytes: int
    region: Region | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One labeled person in one stored image; keypoints and box in pixels of that image."""

    key: str
    image: str  # name of the original image: determines whether the sample is in the validation set
    source: str  # data set: "coco", "mpii", "lsp", "lspet" or the name of a custom data set
    keypoints: NDArray[np.float32]  # (K, 2), may be outside the stored image
    visibility: NDArray[np.uint8]  # (K,) 0 not labeled, 1 labeled but hidden, 2 visible
    skeleton: Skeleton
    box_xywh: NDArray[np.float32]  # (4,) box of the person, without padding
    area: float | None  # area of the person's segmentation in square pixels, where known
    size: Size  # of the stored image
    scale: float  # stored pixels per pixel of the original image
    location: Location


def is_validation(image: str, val_fraction: float = 0.05, seed: int = 0) -> bool:
    """Name of an original image -> whether it is in the validation set: `val_fraction` = 1/n of all images.

    The images whose name has an SHA-1 divisible by n; those of 0.05 are among those of 0.2. Another `seed` gives
    another part; training uses 0. DataError where the fraction is not 1/n.
    """
    text = f"{seed}/{image}" if seed else image
    return int(hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest(), 16) % _divisor(val_fraction) == 0


def possible_val_fraction(names: Iterable[str]) -> float | None:
    """Image names -> the smallest of 1/20, 1/10, 1/5, 1/3, 1/2 that leaves images in both sets, or None."""
    images = set(names)
    counts = {n: sum(is_validation(name, 1 / n) for name in images) for n in (20, 10, 5, 3, 2)}
    return next((round(1 / n, 3) for n, count in counts.items() if 0 < count < len(images)), None)


def _divisor(val_fraction: float) -> int:
    divisor = round(1 / val_fraction)
    if abs(divisor * val_fraction - 1) > 0.011:  # 0.33 is a third
        raise DataError(f"val_fraction is {val_fraction}; wanted 1/n, for example 0.05, 0.2, 0.25 or 0.333.")
    return divisor


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Seed, epoch and index of a sample (each >= 0) -> the generator for all its random draws in that epoch."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch << 32 | index], dtype=np.uint64)))


def epoch_order(
    seed: int, epoch: int, count: int, sampling_weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Seed, epoch and number of samples -> their order in that epoch, a permutation of 0 .. count - 1.

    `sampling_weights` (count,): how often each sample occurs per epoch. The second occurrence of a sample has the
    number index + count, and so on: the number modulo `count` is its index, and each occurrence is augmented
    differently.
    """
    rng = sample_generator(seed, epoch, ORDER)
    if sampling_weights is None:
        return rng.permutation(count)
    return rng.permutation(
        np.concatenate(
            [_repeat_by_weight(sampling_weights == weight, weight, rng) for weight in np.unique(sampling_weights)]
        )
    )


def epoch_length(sampling_weights: NDArray[np.float64]) -> int:
    """Sampling weights (count,) -> number of samples per epoch."""
    return sum(round(weight * np.count_nonzero(sampling_weights == weight)) for weight in np.unique(sampling_weights))


def _repeat_by_weight(chosen: NDArray[np.bool_], weight: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Samples of one sampling weight -> each as often as its integer part says, a random subset once more."""
    indices = rng.permutation(np.flatnonzero(chosen))
    numbers = np.arange(round(weight * len(indices)))
    return indices[numbers % len(indices)] + len(chosen) * (numbers // len(indices))
