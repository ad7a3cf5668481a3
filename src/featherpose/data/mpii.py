"""MPII Human Pose (Andriluka et al. 2014): MPII's own file, HRNet's JSON files, and our form of a part of it.

    mpii_human_pose_v1_u12_1.mat, images/      as MPII is published: splits trainval and test (keypoints withheld)
    annot/SPLIT.json, images/                  as HRNet publishes it: train, valid, trainval and test; for PCKh also
                                               annot/gt_valid.mat, which has the head boxes
    people.json, images/                       our form: as HRNet's, with `headsize` in pixels, coordinates from 0

A folder may hold the first two together; the JSON files are read then. Coordinates are in pixels, the center of the
top-left one is (0, 0): 1 is subtracted from those of the first two, which count from 1. `scale` is the person's height
in units of 200 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import xyxy_to_xywh
from featherpose.data.dataset import Dataset, rows_of, with_sizes
from featherpose.data.folder import find_data, split_of
from featherpose.errors import DataError, InputError
from featherpose.formats import mpii, mpii_mat
from featherpose.formats.mpii import MpiiPerson
from featherpose.records import Counts, Id, ImageRecord, Labels, PersonRecord, require_used
from featherpose.skeleton import MPII16

NAME = "mpii"
FILE = "people.json"
MAT_FILE = "mpii_human_pose_v1_u12_1.mat"
HEAD_BOXES = "gt_valid.mat"
JSON_SPLITS = ("train", "valid", "trainval", "test")
MAT_SPLITS = ("trainval", "test")
HIDDEN = "test"
LSP_FILE = "joints.mat"
"""A .mat file of this name is that of LSP."""
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
    """(N,) in pixels; 1 for the hidden test people."""
    counts: Counts
    hidden: bool = False
    """The keypoints are withheld: a server compares what is uploaded."""
    rectangles: tuple[int, ...] = ()
    """(N,) number of each person in the image, from 0, as MPII's own file counts."""
    all_images: tuple[str, ...] = ()
    """Names of all images of a hidden test set in the order of MPII's own file; empty where read from JSON."""

    def __len__(self) -> int:
        return len(self.image_names)


@dataclass(frozen=True, eq=False)
class _Part:
    """What a file says about one split."""

    file: Path
    images: Path
    persons: list[MpiiPerson]
    counts: Counts
    hidden: bool
    all_images: tuple[str, ...] = ()


def splits(place: Path) -> Mapping[str, Path]:
    """Folder or file -> its annotation files by split; "" is the split of a file that is the only one. Empty where it
    is none of MPII's forms."""
    if place.suffix == ".mat" and place.name != LSP_FILE and place.is_file():
        return dict.fromkeys(MAT_SPLITS, place)
    if place.suffix == ".json" and place.is_file():
        return {"": place} if _is_list(place) else {}
    if (place / FILE).is_file() and _is_list(place / FILE):
        return {"": place / FILE}
    found: dict[str, Path] = {}
    for mat in (place / MAT_FILE, place / "annot" / MAT_FILE):
        if mat.is_file():
            found = dict.fromkeys(MAT_SPLITS, mat)
    of_json = {split: place / "annot" / f"{split}.json" for split in JSON_SPLITS}
    return found | {split: file for split, file in of_json.items() if file.is_file()}


def read_dataset(place: Path, split: str | None = None, category: Id | None = None) -> Dataset:
    """Folder or file, and split where there are several -> the data set; DataError names what is wrong.

    `category` is not used: all annotations are persons.
    """
    part = _read(place, split)
    names = part.all_images or tuple(dict.fromkeys(person.image for person in part.persons))
    index = {name: row for row, name in enumerate(names)}
    images = tuple(ImageRecord(name, name, None, name) for name in names)
    persons = tuple(_record(person, number, index[person.image]) for number, person in enumerate(part.persons))
    labels = Labels(images, persons, MPII16, NAME, 1, "person", part.counts, part.hidden)
    return Dataset(with_sizes(labels, part.images), part.images)


def read_mpii(root: str | os.PathLike[str], split: str | None = None, ids: Collection[str] | None = None) -> Mpii:
    """Folder or file (a path, or a name in the data folder) -> its validated annotations, for PCKh.

    `split` is required where there are several. `ids`: names of the images to keep; None: all. DataError names the
    first record that is wrong. Images are not opened here.
    """
    part = _read(find_data(root), split)
    persons = part.persons
    if ids is not None:
        records = [ImageRecord(person.image, person.image, None, person.place) for person in persons]
        persons = [persons[row] for row in rows_of(ids, records, NAME)]
    without = next((person for person in persons if person.head_size is None), None)
    if without is not None and not part.hidden:
        raise DataError(
            f"{part.file}: {without.place} has no head size, which PCKh needs; put HRNet's {HEAD_BOXES} beside it, and"
            " evaluate on its split valid."
        )
    return Mpii(
        images=part.images,
        image_names=tuple(person.image for person in persons),
        keypoints=np.array([person.keypoints for person in persons]),
        visible=np.array([person.visibility > 0 for person in persons]).astype(np.int64),
        boxes_xyxy=np.array([_box(person) for person in persons], np.float32),
        head_sizes=np.array([1.0 if part.hidden else person.head_size for person in persons]),
        counts=part.counts,
        hidden=part.hidden,
        rectangles=tuple(person.rectangle for person in persons),
        all_images=part.all_images,
    )


def _read(place: Path, split: str | None) -> _Part:
    found = splits(place)
    # Of MPII's own file the training part is meant, unless the other one is named.
    if split is None and set(found) == set(MAT_SPLITS):
        split = MAT_SPLITS[0]
    if split is None and not found:
        found = {"": place / FILE}
    split = split_of(place, found, split)
    file = found[split]
    all_images: list[str] = []
    try:
        if file.suffix == ".mat":
            persons, all_images, counts = mpii_mat.read(file, train=split != HIDDEN)
        else:
            persons, counts = mpii.read(file, published=file.name != FILE)
            persons = _with_head_sizes(persons, file)
    except InputError as error:
        raise DataError(str(error)) from None
    require_used(counts)
    hidden = split == HIDDEN or (file.stem == HIDDEN and not any(person.visibility.any() for person in persons))
    above = file.parent.parent if file.parent.name == "annot" else file.parent
    return _Part(file, above / "images", persons, counts, hidden, tuple(all_images) if hidden else ())


def _is_list(file: Path) -> bool:
    """Whether a JSON file holds a list, as HRNet's do; COCO's format is an object."""
    with file.open("rb") as start:
        return start.read(64).replace(b"\0", b"").lstrip(b"\xef\xbb\xfe\xff\xbf \t\r\n").startswith(b"[")


def _with_head_sizes(persons: list[MpiiPerson], file: Path) -> list[MpiiPerson]:
    """Persons of HRNet's valid.json -> the same with head sizes, where the file with head boxes is beside it."""
    boxes = file.parent / HEAD_BOXES
    if file.name != "valid.json" or not boxes.is_file():
        return persons
    sizes = mpii_mat.head_sizes(boxes).tolist()
    if len(sizes) != len(persons):
        raise InputError(f"{boxes}: {len(sizes)} head boxes for the {len(persons)} persons of {file.name}.")
    return [replace(person, head_size=size) for person, size in zip(persons, sizes, strict=True)]


def _record(person: MpiiPerson, number: int, image: int) -> PersonRecord:
    return PersonRecord(
        image=image,
        id=number,
        category=1,
        crowd=False,
        area=None,
        box_xywh=xyxy_to_xywh(_box(person)).astype(np.float32),
        keypoints=np.column_stack([person.keypoints, person.visibility]).astype(np.float32),
        score=None,
        place=person.place,
    )


def _box(person: MpiiPerson) -> NDArray[np.float64]:
    """Square around the lowered center (4,) left, top, right, bottom."""
    center = person.center + np.array((0, CENTER_OFFSET * person.scale))
    half_side = SCALE_UNIT * person.scale / 2
    return np.concatenate([center - half_side, center + half_side])
