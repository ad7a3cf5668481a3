"""One labelled person, the part of the data it belongs to, and the random draws that are its own.

Order and augmentation are pure functions of (seed, epoch, index): a run that is resumed, or spread over more
workers, sees every person exactly as the uninterrupted run on one worker does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.skeleton import Skeleton

_ORDER = 0xFFFF_FFFF  # the index no sample has: its generator shuffles the epoch


@dataclass(frozen=True)
class Location:
    """Where the bytes of one encoded picture are: `nbytes` bytes from `offset` on in the file `path`."""

    path: Path
    offset: int
    nbytes: int


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
    size: tuple[int, int]  # (width, height) of the stored picture
    scale: float  # stored pixels per pixel of the photo
    location: Location


def is_validation(image: str) -> bool:
    """Name of a photo -> whether it belongs to the validation part (one photo in twenty, by SHA-1 of the name)."""
    return int(hashlib.sha1(image.encode()).hexdigest(), 16) % 20 == 0


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Seed, epoch and index of a sample (each >= 0) -> the generator of all its random draws in that epoch."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch << 32 | index], dtype=np.uint64)))


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Seed, epoch and number of samples -> their order in that epoch, a permutation of 0 .. count - 1."""
    return sample_generator(seed, epoch, _ORDER).permutation(count)
