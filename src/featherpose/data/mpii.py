"""MPII Human Pose (Andriluka et al. 2014), in the JSON format that HRNet's loader reads.

    people.json      a list: `image`, `joints` (16 x 2), `joints_vis` (16), `center` and `scale` of the person, and
                     `headsize` in pixels, which HRNet has in a separate file (`evaluation.pckh.head_sizes`)
    images/          the images

Coordinates are in pixels, the center of the top-left one is (0, 0); HRNet's published files count from 1: subtract 1
from `joints` and `center` first. `scale` is the person's height in units of 200 pixels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.data.folder import find_folder
from featherpose.errors import DataError, InputError
from featherpose.formats import mpii
from featherpose.formats.mpii import MpiiPerson
from featherpose.records import Counts, require_used

FILE = "people.json"
SCALE_UNIT = 200.0
"""Height in pixels of a person of scale 1."""
CENTER_OFFSET = 15.0
"""HRNet moves the center down by this x scale, so that feet are cut off less often."""


@dataclass(frozen=True, eq=False)
class Mpii:
    """N annotated persons and the folder of their images."""

    images: Path
    image_names: tuple[str, ...]
    """(N,) file names."""
    keypoints: NDArray[np.float64]
    """(N, 16, 2) in pixels, in the order of `skeleton.MPII16`."""
    visible: NDArray[np.int64]
    """(N, 16), 1 where labeled."""
    boxes_xyxy: NDArray[np.float32]
    """(N, 4), squares of side 200 x scale around the lowered center: HRNet's crop before its factor 1.25."""
    head_sizes: NDArray[np.float64]
    """(N,) in pixels."""
    counts: Counts

    def __len__(self) -> int:
        return len(self.image_names)


def read_mpii(root: str | os.PathLike[str]) -> Mpii:
    """Folder (a path, or a name in FEATHERPOSE_DATA) with people.json and images/ -> its validated annotations.

    DataError names the first record that is wrong. Images are not opened here.
    """
    place = find_folder(root)
    try:
        persons, counts = mpii.read(place / FILE)
    except InputError as error:
        raise DataError(str(error)) from None
    require_used(counts)
    return Mpii(
        images=place / "images",
        image_names=tuple(person.image for person in persons),
        keypoints=np.array([person.keypoints for person in persons]),
        visible=np.array([person.labeled for person in persons]).astype(np.int64),
        boxes_xyxy=np.array([_box(person) for person in persons], np.float32),
        head_sizes=np.array([person.head_size for person in persons]),
        counts=counts,
    )


def _box(person: MpiiPerson) -> NDArray[np.float64]:
    """Square around the lowered center (4,) left, top, right, bottom."""
    center = person.center + np.array((0, CENTER_OFFSET * person.scale))
    half_side = SCALE_UNIT * person.scale / 2
    return np.concatenate([center - half_side, center + half_side])
