"""CrowdPose (Li et al. 2019, github.com/Jeff-sjtu/CrowdPose): the published files.

    json/crowdpose_SPLIT.json, images/     train, val, trainval and test; the JSON files may also be in annotations/ or
                                           in the folder itself

COCO's format with 14 keypoints; images have a `crowdIndex`, persons no area. As in the evaluation code of its authors
the area is 0.53 of the box, also where a file says another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from featherpose.data.dataset import Dataset, with_sizes
from featherpose.data.folder import split_of
from featherpose.errors import DataError, InputError
from featherpose.formats import coco_labels
from featherpose.records import Id
from featherpose.skeleton import CROWDPOSE14

NAME = "crowdpose"

_PREFIX = "crowdpose_"
_FOLDERS = ("json", "annotations", ".")


def splits(place: Path) -> Mapping[str, Path]:
    """Folder or file -> its annotation files by split; "" is the split of a file. Empty where it is not CrowdPose."""
    if place.is_file():
        return {"": place} if place.name.startswith(_PREFIX) and place.suffix == ".json" else {}
    for folder in _FOLDERS:
        found = sorted((place / folder).glob(f"{_PREFIX}*.json"))
        if found:
            return {path.stem.removeprefix(_PREFIX): path for path in found}
    return {}


def read_dataset(place: Path, split: str | None = None, category: Id | None = None) -> Dataset:
    """Folder or file, and split where there are several -> the data set; DataError names what is wrong."""
    found = {"": place} if place.is_file() else splits(place)
    file = found[split_of(place, found, split)]
    try:
        labels = coco_labels.read(file, NAME, category, skeleton=CROWDPOSE14)
    except InputError as error:
        raise DataError(str(error)) from None
    if labels.skeleton.num_keypoints != CROWDPOSE14.num_keypoints:
        raise DataError(f"{file}: {labels.skeleton.num_keypoints} keypoints, wanted the 14 of CrowdPose.")
    persons = tuple(replace(person, area=None) for person in labels.persons)
    folder = file.parent if (file.parent / "images").is_dir() else file.parent.parent
    labels = replace(labels, persons=persons, skeleton=CROWDPOSE14)
    return Dataset(with_sizes(labels, folder / "images"), folder / "images")
