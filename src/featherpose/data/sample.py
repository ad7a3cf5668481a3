"""One labelled person, the part of the data it belongs to, and the random draws that are its own.

Order and augmentation are pure functions of (seed, epoch, index): a run that is resumed, or spread over more
workers, sees every person exactly as the uninterrupted run on one worker does.
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

_ORDER = 0xFFFF_FFFF  # the index no sample has: its generator shuffles the epoch


@dataclass(frozen=True)
class Region:
    """A stored picture that is a part of a photo of `size`: the pixel its top-left one is there."""

    left: int
    top: int
    size: Size


@dataclass(frozen=True)
class Location:
    """Where the bytes of one encoded picture are: `nbytes` bytes from `offset` on in the file `path`.

    Where they are a whole photo, `part` says what of it is the stored picture.
    """

    path: Path
    offset: int
    nbytes: int
    region: Region | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled person in one stored picture; joints and box in pixels of that picture."""

    key: str
    image: str  # name of the photo it was cut from: decides the validation part
    source: str  # data set: "coco", "mpii", "lsp", "lspet" or a name of your own
    keypoints: NDArray[np.float32]  # (K, 2), may lie outside the picture
    visibility: NDArray[np.uint8]  # (K,) 0 not labelled, 1 labelled but hidden, 2 visible
    skeleton: Skeleton
    box_xywh: NDArray[np.float32]  # (4,) the person, not enlarged
    area: float | None  # of the person's outline in square pixels, where known
    size: Size  # of the stored picture
    scale: float  # stored pixels per pixel of the photo
    location: Location


def is_validation(image: str, val_fraction: float = 0.05) -> bool:
    """Name of an image -> whether it belongs to the validation set: `val_fraction` = 1/n of all images.

    Those whose name has a SHA-1 that n divides. The images of 0.05 are among those of 0.2. DataError where the fraction is not 1/n.
    """
    return int(hashlib.sha1(image.encode()).hexdigest(), 16) % _divisor(val_fraction) == 0


def possible_val_fraction(names: Iterable[str]) -> float | None:
    """Names of images -> the smallest of 1/20, 1/10, 1/5, 1/3, 1/2 that leaves images in both sets; None: too few."""
    images = set(names)
    counts = {n: sum(is_validation(name, 1 / n) for name in images) for n in (20, 10, 5, 3, 2)}
    return next((round(1 / n, 3) for n, count in counts.items() if 0 < count < len(images)), None)


def _divisor(val_fraction: float) -> int:
    divisor = round(1 / val_fraction)
    if abs(divisor * val_fraction - 1) > 0.011:  # 0.33 is a third
        raise DataError(f"data.val_fraction is {val_fraction}; wanted 1/n, for example 0.05, 0.2, 0.25 or 0.333.")
    return divisor


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Seed, epoch and index of a sample (each >= 0) -> the generator of all its random draws in that epoch."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch << 32 | index], dtype=np.uint64)))


def epoch_order(
    seed: int, epoch: int, count: int, sampling_weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Seed, epoch and number of samples -> their order in that epoch, a permutation of 0 .. count - 1.

    `shares` (count,): how often each is to be seen. A sample's second time has the number index + count, and so on:
    the remainder by `count` is its index, and each time is augmented in its own way.
    """
    rng = sample_generator(seed, epoch, _ORDER)
    if sampling_weights is None:
        return rng.permutation(count)
    return rng.permutation(
        np.concatenate([_drawn(sampling_weights == share, share, rng) for share in np.unique(sampling_weights)])
    )


def epoch_length(sampling_weights: NDArray[np.float64]) -> int:
    """Shares (count,) -> how many samples an epoch sees."""
    return sum(round(share * np.count_nonzero(sampling_weights == share)) for share in np.unique(sampling_weights))


def _drawn(chosen: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Samples of one share -> each as often as whole times fit, and the rest of the share by lot."""
    people = rng.permutation(np.flatnonzero(chosen))
    numbers = np.arange(round(share * len(people)))
    return people[numbers % len(people)] + len(chosen) * (numbers // len(people))
