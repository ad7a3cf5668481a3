"""MPII Human Pose annotations (Andriluka et al. 2014) in the JSON format that HRNet's loader reads -> persons.

A list with one object per person: `image`, `joints` (16 x 2), `joints_vis` (16), `center` and `scale` of the person,
and `headsize` in pixels. In MPII's files -1 means "not given": a keypoint at (-1, -1) is not labeled, and a person
whose center is there has no box. What the coordinates of a keypoint with `joints_vis` 0 are does not matter.
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
    labeled: NDArray[np.bool_]
    """(16,)."""
    center: NDArray[np.float64]
    """(2,)."""
    scale: float
    """Height of the person in units of 200 pixels."""
    head_size: float
    place: str


def read(path: Path) -> tuple[list[MpiiPerson], Counts]:
    """JSON file -> the persons that have a box, and their counts; InputError names the first record that is wrong."""
    records = files.read_json(path, "Wanted MPII's annotations in HRNet's format.")
    if not isinstance(records, list) or not records:
        raise InputError(f"{path}: wanted a list of persons.")
    tally = Tally(f"persons of {path.name}", len(records))
    try:
        found = [_person(record, f"person {index}", tally) for index, record in enumerate(records)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return [person for person in found if person is not None], tally.counts()


def _person(record: Any, place: str, tally: Tally) -> MpiiPerson | None:
    """One record -> the person; None where there is no box, which is counted."""
    if not isinstance(record, dict):
        raise InputError(f"{place} is {values.shown(record)}, wanted an object.")
    center = values.as_numbers(_list(record, "center", 2, place), f"{place}: center")
    scale = values.as_number(_given(record, "scale", place), f"{place}: scale")
    if (center == NOT_GIVEN).all() or scale == NOT_GIVEN:
        tally.leave_out(NO_CENTER, place)
        return None
    head_size = values.as_number(_given(record, "headsize", place), f"{place}: headsize")
    for key, value in (("scale", scale), ("headsize", head_size)):
        if value <= 0:
            raise InputError(f"{place}: {key} is {value:g}, wanted a positive number.")
    labeled = np.array([_is_labeled(value, place) for value in _list(record, "joints_vis", 16, place)], bool)
    points = [
        point if seen else [0, 0] for point, seen in zip(_list(record, "joints", 16, place), labeled, strict=True)
    ]
    keypoints = np.array([_point(point, place) for point in points])
    missing = labeled & (keypoints == NOT_GIVEN).all(axis=1)
    for index in np.flatnonzero(missing):
        tally.assume(UNLABELED, f"{place}, {MPII16.keypoint_names[index]}")
    return MpiiPerson(
        image=values.as_name(record.get("image"), f"{place}: image"),
        keypoints=keypoints,
        labeled=labeled & ~missing,
        center=center,
        scale=scale,
        head_size=head_size,
        place=place,
    )


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
