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
from pathlib import Path

import numpy as np

from featherpose.data.dataset import Dataset, with_sizes
from featherpose.data.folder import split_of
from featherpose.errors import DataError, InputError
from featherpose.formats import lsp, mat
from featherpose.formats.lsp import person_of
from featherpose.records import Id, ImageRecord, Labels, Tally, box_around, require_used
from featherpose.skeleton import LSP14

NAME = "lsp"
EXTENDED_NAME = "lspet"
FILE = "joints.json"
MAT_FILE = "joints.mat"
NUM_IMAGES = 2000
"""Of LSP; half of them are for training."""


def splits(place: Path) -> Mapping[str, Path]:
    """Folder or file -> its annotation files by split; "" is the split of a file that is the only one. Empty where it
    is none of the forms above."""
    if place.is_file():
        return _of_file(place) if _is_form(place) else {}
    for name in (FILE, MAT_FILE):
        if _is_form(place / name):
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
        labels = _from_mat(file, split) if file.suffix == ".mat" else lsp.read(file, NAME)
    except InputError as error:
        raise DataError(str(error)) from None
    require_used(labels.counts)
    images = file.parent / "images"
    return Dataset(with_sizes(labels, images), images)


def _is_form(file: Path) -> bool:
    """Whether a file is one of the forms above: other data sets have a joints.json, too."""
    if file.name == FILE and file.is_file():
        return b'"joint_names"' in file.read_bytes()
    return file.name == MAT_FILE and file.is_file()


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
        person_of(index, keypoints[row], box_around(keypoints[row]), images[index].name)
        for index, row in enumerate(rows)
    )
    name = EXTENDED_NAME if is_extended else NAME
    return Labels(images, persons, LSP14, name, 1, "person", tally.counts())
