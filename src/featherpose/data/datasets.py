"""The data sets that can be read, by name, and which one a folder or a file is.

A data set is named by its folder or by one of its annotation files, `coco` or `coco/annotations/my.json`; where a
folder has several splits, by the folder and the split, `coco/val2017`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from featherpose.data import coco, crowdpose, folder, lsp, mpii, yolo
from featherpose.data.dataset import Dataset
from featherpose.errors import DataError, did_you_mean
from featherpose.records import Id


@dataclass(frozen=True)
class Reader:
    """How one data set is recognized and read."""

    splits: Callable[[Path], Mapping[str, Path]]
    """Folder or file -> its annotation files by split; "" is the split of the only one. Empty: another data set."""
    read: Callable[[Path, str | None, Id | None], Dataset]
    """Folder or file, split (None: the only one) and category of the persons -> the data set."""


DATASETS: dict[str, Reader] = {
    "mpii": Reader(mpii.splits, mpii.read_dataset),
    "lsp": Reader(lsp.splits, lsp.read_dataset),
    "crowdpose": Reader(crowdpose.splits, crowdpose.read_dataset),
    "yolo": Reader(yolo.splits, yolo.read_dataset),
    "coco": Reader(coco.splits, coco.read_coco),
    "custom": Reader(coco.splits, coco.read_coco),
}
"""Name -> reader. Where a folder or file is recognized, the first that knows it reads it. "custom" is any file in
COCO's format, the keypoints those of its category or of `skeleton.yaml` beside it."""


@dataclass(frozen=True)
class Source:
    """A data set that was found: its name in DATASETS, its folder or file, and the split."""

    name: str
    place: Path
    split: str | None

    def read(self, category: Id | None = None, ids: Collection[str] | None = None) -> Dataset:
        """Category of the persons, where a file has several, and ids or names of the images to keep -> the data set."""
        dataset = DATASETS[self.name].read(self.place, self.split, category)
        return dataset if ids is None else dataset.with_ids(ids)


def find_dataset(name: str | os.PathLike[str], known_as: str = "") -> Source:
    """Folder, file or FOLDER/SPLIT, as a path or in the data folder, and its name in DATASETS ("": recognized) ->
    Source.

    DataError where there is nothing of that name, or no data set is recognized there.
    """
    place = _existing(name)
    source = recognize(place, known_as)
    if source is None:
        if not place.exists():
            folder.find_data(name)  # raises the error about a missing data set
        known = f"a data set of the form {known_as}" if known_as else "a data set"
        raise DataError(f"{place}: not {known}; {folder.HOW_TO_GET} and what they look like.")
    return source


def find_place(name: str | os.PathLike[str]) -> Path:
    """As in `find_dataset`, or a folder of shards -> its path; of FOLDER/SPLIT the folder need not have such a file."""
    place = _existing(name)
    return place if place.exists() or recognize(place) else folder.find_data(name)


def recognize(place: Path, known_as: str = "") -> Source | None:
    """Folder, file or FOLDER/SPLIT -> which data set it is; None where it is none."""
    if known_as and known_as not in DATASETS:
        raise DataError(f"Data set {known_as!r} is not known.{did_you_mean(known_as, DATASETS)}")
    for name, reader in DATASETS.items():
        if known_as in ("", name) and place.exists() and reader.splits(place):
            return Source(name, place, None)
    for name, reader in DATASETS.items():
        if known_as in ("", name) and place.parent.exists() and place.name in reader.splits(place.parent):
            return Source(name, place.parent, place.name)
    return None


def _existing(name: str | os.PathLike[str]) -> Path:
    """Path of a data set as given, or in the data folder where only that or its folder is there."""
    below = folder.data_folder() / name
    for place in (Path(name), below):
        if place.exists() or (recognize(place) is not None):
            return place
    return Path(name)
