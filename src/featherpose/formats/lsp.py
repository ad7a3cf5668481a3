"""Labels of LSP in our form (joints.json) -> persons.

`joint_names`, and `people`, a list of `image`, `width`, `height`, `box_xywh` and `joints` (14 x [x, y, v]), in pixels
from 0. Without a box, it is the bounds of the keypoints with a margin.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import values
from featherpose.records import ImageRecord, Labels, PersonRecord, Tally, box_around
from featherpose.size import Size
from featherpose.skeleton import LSP14

_WANTED = "wanted joint_names and people, a list of image, width, height, box_xywh and joints"


def read(file: Path, name: str) -> Labels:
    """joints.json and the name of the data set -> Labels; InputError names the first record that is wrong."""
    document = files.read_json(file, "Copy or write it again.")
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list):
        raise InputError(f"{file}: {_WANTED}.")
    names = document.get("joint_names")
    if names != list(LSP14.keypoint_names):
        raise InputError(f"{file}: joint_names is {values.shown(names)}, wanted {', '.join(LSP14.keypoint_names)}.")
    images: list[ImageRecord] = []
    persons: list[PersonRecord] = []
    index_of: dict[str, int] = {}
    for number, record in enumerate(people):
        place = f"people[{number}]"
        try:
            image = _image(record, place)
            index = index_of.setdefault(image.name, len(images))
            persons.append(_read_person(record, index, place))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        if index == len(images):
            images.append(image)
    counts = Tally(f"persons of {file.name}", len(people)).counts()
    return Labels(tuple(images), tuple(persons), LSP14, name, 1, "person", counts)


def _image(record: Any, place: str) -> ImageRecord:
    if not isinstance(record, dict):
        raise InputError(f"{place} is {values.shown(record)}, wanted an object.")
    name = values.as_name(record.get("image"), f"{place}.image")
    width = values.as_side(record.get("width"), f"{place}.width")
    height = values.as_side(record.get("height"), f"{place}.height")
    return ImageRecord(name, name, Size(height=height, width=width) if width and height else None, place)


def _read_person(record: dict[str, Any], image: int, place: str) -> PersonRecord:
    keypoints = values.as_keypoints(record.get("joints"), LSP14.num_keypoints, f"{place}.joints")
    box = values.as_box(record.get("box_xywh"), f"{place}.box_xywh")
    if keypoints is None:
        raise InputError(f"{place} has no joints.")
    if box is not None and not (box[2:] > 0).all():
        raise InputError(f"{place}.box_xywh is {box.tolist()}, wanted a width and a height above 0.")
    person = person_of(image, keypoints, box_around(keypoints) if box is None else box.astype(np.float32), place)
    return replace(person, box_is_computed=box is None)


def person_of(image: int, keypoints: NDArray[np.float32], box: NDArray[np.float32] | None, place: str) -> PersonRecord:
    """Index of an image, keypoints (14, 3), box and where they stand -> the person of LSP, which has no id or area."""
    return PersonRecord(
        image=image,
        id=None,
        category=1,
        crowd=False,
        area=None,
        box_xywh=box,
        keypoints=keypoints,
        score=None,
        place=place,
        box_is_computed=True,
    )
