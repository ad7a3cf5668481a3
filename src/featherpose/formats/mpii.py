"""MPII Human Pose annotations (Andriluka et al. 2014) in the JSON format that HRNet's loader reads -> persons.

A list with one object per person: `image`, `joints` (16 x 2), `joints_vis` (16), `center` and `scale` of the person,
and `headsize` in pixels. In MPII's files -1 means "not given": a keypoint at (-1, -1) is not labeled, and a person
whose center is there has no box. What the coordinates of a keypoint with `joints_vis` 0 are does not matter.

HRNet's published files (annot/train.json, valid.json, trainval.json, test.json) count from 1 and have no `headsize`;
those of the hidden test people have no `joints`. `mpii_mat` reads MPII's own file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import values
from featherpose.records import Counts, Tally
from featherpose.skeleton import MPII16

NOT_GIVEN = -1.0
NO_CENTER = "without a center or a scale"
UNLABELED = "keypoints at (-1, -1), taken as not labeled"


@dataclass(frozen=True, eq=False)
class MpiiPerson:
    """One annotated person; pixels, 0-based."""

    image: str
    keypoints: NDArray[np.float64]
    """(16, 2), in the order of `skeleton.MPII16`."""
    visibility: NDArray[np.uint8]
    """(16,) 0 not labeled, 1 labeled but hidden, 2 visible; HRNet's files do not say which are hidden."""
    center: NDArray[np.float64]
    """(2,)."""
    scale: float
    """Height of the person in units of 200 pixels."""
    head_size: float | None
    """None where the file does not say it."""
    place: str
    rectangle: int = 0
    """Number of the person in the image, from 0, as MPII's own file counts."""


def read(path: Path, *, published: bool = False) -> tuple[list[MpiiPerson], Counts]:
    """JSON file -> the persons that have a box, and their counts; InputError names the first record that is wrong.

    `published`: a file of HRNet's, whose coordinates count from 1.
    """
    records = files.read_json(path, "Wanted MPII's annotations in HRNet's format.")
    if not isinstance(records, list) or not records:
        raise InputError(f"{path}: wanted a list of persons.")
    tally = Tally(f"persons of {path.name}", len(records))
    try:
        found = [_person(record, f"person {index}", tally, published) for index, record in enumerate(records)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return [person for person in found if person is not None], tally.counts()


def _person(record: Any, place: str, tally: Tally, published: bool) -> MpiiPerson | None:
    """One record -> the person; None where there is no box, which is counted."""
    if not isinstance(record, dict):
        raise InputError(f"{place} is {values.shown(record)}, wanted an object.")
    center = values.as_numbers(_list(record, "center", 2, place), f"{place}: center")
    scale = values.as_number(_given(record, "scale", place), f"{place}: scale")
    if (center == NOT_GIVEN).all() or scale == NOT_GIVEN:
        tally.leave_out(NO_CENTER, place)
        return None
    _require_positive(scale, f"{place}: scale")
    head_size = None
    if not published or not values.is_absent(record.get("headsize")):
        head_size = values.as_number(_given(record, "headsize", place), f"{place}: headsize")
        _require_positive(head_size, f"{place}: headsize")
    image = values.as_name(record.get("image"), f"{place}: image")
    if published and "joints" not in record:
        nowhere = np.zeros((MPII16.num_keypoints, 2))
        unlabeled = np.zeros(MPII16.num_keypoints, np.uint8)
        return MpiiPerson(image, nowhere, unlabeled, center - 1, scale, head_size, place)
    labeled = np.array([_is_labeled(value, place) for value in _list(record, "joints_vis", 16, place)], bool)
    points = [
        point if seen else [0, 0] for point, seen in zip(_list(record, "joints", 16, place), labeled, strict=True)
    ]
    keypoints = np.array([_point(point, place) for point in points])
    missing = labeled & (keypoints == NOT_GIVEN).all(axis=1)
    for index in np.flatnonzero(missing):
        tally.assume(UNLABELED, f"{place}, {MPII16.keypoint_names[index]}")
    origin = 1 if published else 0
    return MpiiPerson(
        image=image,
        keypoints=keypoints - origin,
        visibility=(2 * (labeled & ~missing)).astype(np.uint8),
        center=center - origin,
        scale=scale,
        head_size=head_size,
        place=place,
    )


def _require_positive(value: float, what: str) -> None:
    if value <= 0:
        raise InputError(f"{what} is {value:g}, wanted a positive number.")


def _given(record: dict[str, Any], key: str, place: str) -> Any:
    value = record.get(key)
    if values.is_absent(value):
        raise InputError(f"{place} has no {key} ({key} is {value!r}).")
    return value


def _list(record: dict[str, Any], key: str, length: int, place: str) -> list[Any]:
    value = _given(record, key, place)
    if not isinstance(value, list) or len(value) != length:
        raise InputError(f"{place}: {key} is {values.shown(value)}, wanted a list of {length}.")
    return value


def _is_labeled(value: Any, place: str) -> bool:
    if isinstance(value, bool):
        return value
    return values.as_number(value, f"{place}: joints_vis") > 0


def _point(value: Any, place: str) -> NDArray[np.float64]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{place}: joints contains {values.shown(value)}, wanted x and y.")
    return values.as_numbers(value, f"{place}: joints")
