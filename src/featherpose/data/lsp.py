"""LSP and LSP Extended (Johnson and Everingham 2010, 2011): the published files, and our form of a part of it.

    joints.mat, images/im0001.jpg ...    as published: LSP has 2,000 images with one person each, splits train and test,
                                         1,000 each; LSP Extended 10,000, all for training
    joints.json, images/                 our form: `joint_names`, and `people`, a list of `image`, `width`, `height`,
                                         `box_xywh` and `joints` (14 x [x, y, v]), coordinates from 0

No box is published: it is the bounds of the keypoints, enlarged on every side by 15 % of the larger one. LSP counts
from 1, so 1 is subtracted; LSP Extended does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.data.dataset import Dataset, with_sizes
from featherpose.data.folder import split_of
from featherpose.errors import DataError, InputError
from featherpose.formats import mat, values
from featherpose.records import Id, ImageRecord, Labels, PersonRecord, Tally, box_around, require_used
from featherpose.size import Size
from featherpose.skeleton import LSP14

NAME = "lsp"
EXTENDED_NAME = "lspet"
FILE = "joints.json"
MAT_FILE = "joints.mat"
NUM_IMAGES = 2000
"""Of LSP; half of them are for training."""

_WANTED = "wanted joint_names and people, a list of image, width, height, box_xywh and joints"


def splits(place: Path) -> Mapping[str, Path]:
    """Folder or file -> its annotation files by split; "" is the split of a file that is the only one. Empty where it
    is none of the forms above."""
    if place.is_file():
        return _of_file(place) if place.name in (FILE, MAT_FILE) else {}
    for name in (FILE, MAT_FILE):
        if (place / name).is_file():
            return _of_file(place / name)
    return {}


def read_dataset(place: Path, split: str | None = None, category: Id | None = None) -> Dataset:
    """Folder or file, and split where there are several -> the data set; DataError names what is wrong.

    `category` is not used: all annotations are persons.
    """
    found = splits(place) or {"": place / FILE}
    split = split_of(place, found, split)
    file = found[split]
    try:
        labels = _from_mat(file, split) if file.suffix == ".mat" else _from_json(file)
    except InputError as error:
        raise DataError(str(error)) from None
    require_used(labels.counts)
    images = file.parent / "images"
    return Dataset(with_sizes(labels, images), images)


def _of_file(file: Path) -> dict[str, Path]:
    return {"": file} if file.name == FILE else {"train": file, "test": file} if _is_lsp(file) else {"train": file}


def _is_lsp(file: Path) -> bool:
    """Whether a joints.mat is that of LSP, (3, 14, 2000); else it is that of LSP Extended, (14, 3, 10000)."""
    return mat.shape_of(file, "joints") == (3, LSP14.num_keypoints, NUM_IMAGES)


def _from_mat(file: Path, split: str) -> Labels:
    joints = np.asarray(mat.load(file).get("joints", ()), np.float64)
    if joints.ndim != 3 or sorted(joints.shape[:2]) != [3, LSP14.num_keypoints]:
        raise InputError(f"{file}: joints have the shape {joints.shape}, wanted (3, 14, N) or (14, 3, N).")
    is_extended = joints.shape[0] == LSP14.num_keypoints
    keypoints = joints.transpose((2, 0, 1) if is_extended else (2, 1, 0))  # (N, 14, 3)
    # The third number is 1 for a labeled keypoint in LSP Extended, and for a hidden one in LSP, where all are labeled.
    last = keypoints[..., 2]
    visibility = np.where(last > 0, 2, 0) if is_extended else np.where(last > 0, 1, 2)
    keypoints = np.dstack([keypoints[..., :2] - (0 if is_extended else 1), visibility]).astype(np.float32)
    half = len(keypoints) // 2
    rows = range(len(keypoints))
    if not is_extended:
        rows = rows[:half] if split == "train" else rows[half:]
    digits = 5 if is_extended else 4
    names = [f"im{row + 1:0{digits}}.jpg" for row in rows]
    tally = Tally(f"persons of {file.name}", len(names))
    images = tuple(ImageRecord(name, name, None, name) for name in names)
    persons = tuple(
        _person(index, keypoints[row], box_around(keypoints[row]), images[index].name) for index, row in enumerate(rows)
    )
    name = EXTENDED_NAME if is_extended else NAME
    return Labels(images, persons, LSP14, name, 1, "person", tally.counts())


def _from_json(file: Path) -> Labels:
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
    return Labels(tuple(images), tuple(persons), LSP14, NAME, 1, "person", counts)


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
    person = _person(image, keypoints, box_around(keypoints) if box is None else box.astype(np.float32), place)
    return replace(person, box_is_computed=box is None)


def _person(image: int, keypoints: NDArray[np.float32], box: NDArray[np.float32] | None, place: str) -> PersonRecord:
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
