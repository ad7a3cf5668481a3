"""MPII Human Pose (Andriluka et al. 2014), in the JSON format that HRNet's loader reads.

    people.json      a list: `image`, `joints` (16 x 2), `joints_vis` (16), `center` and `scale` of the person, and
                     `headsize` in pixels, which HRNet has in a separate file (`evaluation.pckh.head_sizes`)
    images/          the images

Coordinates are in pixels, the center of the top-left one is (0, 0); HRNet's published files count from 1: subtract 1
from `joints` and `center` first. `scale` is the person's height in units of 200 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.data.folder import find_folder
from featherpose.errors import DataError

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

    def __len__(self) -> int:
        return len(self.image_names)


def read_mpii(root: str | os.PathLike[str]) -> Mpii:
    """Folder (a path, or a name in FEATHERPOSE_DATA) with people.json and images/ -> its validated annotations.

    DataError names the first record that is wrong. Images are not opened here.
    """
    place = find_folder(root)
    path = place / FILE
    records = files.read_json(path, "Wanted MPII's annotations in HRNet's format.", error=DataError)
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: wanted a list of persons.")
    persons = [_person(record, f"{path}: person {index}") for index, record in enumerate(records)]
    image_names, keypoints, visible, boxes, head_sizes = zip(*persons, strict=True)
    return Mpii(
        images=place / "images",
        image_names=image_names,
        keypoints=np.array(keypoints),
        visible=np.array(visible),
        boxes_xyxy=np.array(boxes),
        head_sizes=np.array(head_sizes),
    )


def _person(record: Any, where: str) -> tuple[str, Any, Any, Any, float]:
    """One record -> image name, keypoints (16, 2), labeled (16,), box (4,), head size."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object.")
    keypoints = _numbers(record, "joints", (16, 2), where)
    center = _numbers(record, "center", (2,), where)
    labeled = _numbers(record, "joints_vis", (16,), where) > 0
    scale = float(_numbers(record, "scale", (), where))
    head_size = float(_numbers(record, "headsize", (), where))
    for key, value in (("scale", scale), ("headsize", head_size)):
        if value <= 0:
            raise DataError(f"{where}: {key} is {value:g}, wanted a positive number.")
    if not isinstance(record.get("image"), str):
        raise DataError(f"{where} has no image.")
    lowered_center = center + np.array((0, CENTER_OFFSET * scale))
    half_side = SCALE_UNIT * scale / 2
    box = np.concatenate([lowered_center - half_side, lowered_center + half_side]).astype(np.float32)
    return record["image"], keypoints, labeled.astype(np.int64), box, head_size


def _numbers(record: dict[str, Any], key: str, shape: Sequence[int], where: str) -> NDArray[np.float64]:
    try:
        values = np.array(record[key], np.float64)
    except KeyError:
        raise DataError(f"{where} has no {key}.") from None
    except (TypeError, ValueError):
        raise DataError(f"{where}: {key} contains a value that is not a number.") from None
    # JSON has no infinity, but Python reads and writes NaN and Infinity.
    if values.shape != tuple(shape) or not np.isfinite(values).all():
        raise DataError(f"{where}: {key} has the shape {values.shape}, wanted {tuple(shape)} finite numbers.")
    return values
