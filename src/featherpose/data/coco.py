"""COCO keypoint annotations (Lin et al. 2014): the published files, and custom data sets in the same format.

A data set is given by the path of its file, with images next to it or in `images/` there, or by a folder in one of two
layouts:

    person_keypoints.json                          images in images/
    annotations/person_keypoints_SPLIT.json        images in SPLIT/, images/SPLIT/ or images/, as COCO is published
    annotations/image_info_SPLIT.json              the test sets, whose annotations are withheld: test-dev2017

CVAT's COCO Keypoints export has the second one. A file whose categories list no keypoints takes them from
`skeleton.yaml` beside it. `formats.coco_labels` reads the file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featherpose import files, images
from featherpose.data.dataset import Dataset, with_sizes
from featherpose.data.folder import find_data
from featherpose.errors import DataError, InputError
from featherpose.formats import coco_labels
from featherpose.records import Id, Labels, Tally, last_part, name_key, some
from featherpose.skeleton import Skeleton

FILE = "person_keypoints.json"
SKELETON_FILE = "skeleton.yaml"

LAST_PART = "file names of which only the last part is here"
OTHER_SPELLING = "file names that are here in another spelling (case, Unicode form)"

Listings = dict[PurePosixPath, dict[str, list[str]]]
"""Folders below that of the images -> the names in them by their keys."""

_STEM = FILE.removesuffix(".json")
_HIDDEN_STEM = "image_info"


def splits(place: Path) -> Mapping[str, Path]:
    """JSON file, or folder in one of the layouts above -> its annotation files by split; "" is the split of one that is
    the only one. Empty where it is neither."""
    if place.is_file():
        return {"": place} if place.suffix.lower() == ".json" else {}
    if (place / FILE).is_file():
        return {"": place / FILE}
    found: dict[str, Path] = {}
    for stem in (_HIDDEN_STEM, _STEM):
        for path in sorted((place / "annotations").glob(f"{stem}_*.json")):
            found[path.stem.removeprefix(stem + "_")] = path
    return found


def read_coco(root: str | os.PathLike[str], split: str | None = None, category: Id | None = None) -> Dataset:
    """JSON file, or folder (a path, or a name in the data folder) in a layout as above -> its validated annotations.

    `split` ("val2017") is required where the folder contains more than one, `category` (name or id) where the file has
    keypoints of several. Images are not opened here. DataError names the first record that is wrong.
    """
    place = find_data(root)
    annotations, folders = _find(place, split)
    try:
        # The name goes into files that are valid text, whatever that of the file is.
        name = place.stem.encode("utf-8", "backslashreplace").decode()
        labels = _labels(annotations, name, category or None)
    except InputError as error:
        raise DataError(str(error)) from None
    # A folder has one of two known layouts; next to a file, the images may be anywhere nearby.
    image_folder = _with_any_image(annotations, folders, labels) if place.is_file() else _existing(folders)
    return Dataset(with_sizes(_with_found_names(labels, image_folder), image_folder), image_folder)


def _labels(annotations: Path, name: str, category: Id | None) -> Labels:
    if annotations.stem.startswith(_HIDDEN_STEM):
        return coco_labels.read_hidden(annotations, name)
    beside = annotations.parent / SKELETON_FILE
    skeleton = Skeleton.from_yaml(beside) if beside.is_file() else None
    return coco_labels.read(annotations, name, category, skeleton=skeleton)


def _find(place: Path, split: str | None) -> tuple[Path, list[Path]]:
    """JSON file or folder -> (annotation file, folders where its images may be)."""
    if place.is_file():
        return place, _image_folder_candidates(place)
    by_split = splits(place)
    if split is None and len(by_split) == 1:
        split = next(iter(by_split))
    if split == "":
        return by_split[split], [place / "images"]
    if split is not None and split in by_split:
        folder = split.replace("test-dev", "test")  # test-dev2017 is a part of test2017
        return by_split[split], [place / folder, place / "images" / folder, place / "images"]
    wanted = f"{FILE} or annotations/{_STEM}_{split or 'SPLIT'}.json"
    raise DataError(f"{place}: there is no {wanted}; splits found: {', '.join(sorted(by_split)) or 'none'}.")


def _image_folder_candidates(file: Path) -> list[Path]:
    """JSON file given by its path -> the folders where its images may be, most likely first."""
    roots = [file.parent, file.parent.parent] if file.parent.name == "annotations" else [file.parent]
    split = file.stem.removeprefix(_STEM + "_").removeprefix(_HIDDEN_STEM + "_").replace("test-dev", "test")
    return [root / inner for root in roots for inner in ("", "images", split, f"images/{split}")]


def _existing(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(f"There is no image folder {' or '.join(map(str, folders))}; put the images there.")


def _with_any_image(file: Path, folders: Sequence[Path], labels: Labels) -> Path:
    """The first folder that contains any of the images; the first one for a file that lists none."""
    names = [image.name for image in labels.images]
    for folder in folders:
        if not names or any(files.is_file(folder / name) for name in names):
            return folder
    for folder in folders:
        listings: Listings = {}
        if any(_find_entry(folder, name, listings) for name in names):
            return folder
    near = [name for name in _names_in(folders[0]) if Path(name).suffix.lower() in images.SUFFIXES]
    raise DataError(
        f"{file}: its images ({some(names)}) are neither next to it nor in {folders[1]}; put them there. The images"
        f" next to it: {some(near) or 'none'}."
    )


def _with_found_names(labels: Labels, folder: Path) -> Labels:
    """The same, where an image that is not below the folder by its name is there in another spelling, or by the last
    part of it.

    Tools write the folders of the machine that they ran on. A last part that two images share says nothing.
    """
    missing = {index: image for index, image in enumerate(labels.images) if not files.is_file(folder / image.name)}
    if not missing:
        return labels
    shared = Counter(name_key(image.name) for image in labels.images)
    listings: Listings = {}
    tally = Tally(labels.counts.what)
    records = list(labels.images)
    for index, image in missing.items():
        is_shared = shared[name_key(image.name)] > 1
        name = _find_entry(folder, image.name, listings, below_alone=is_shared)
        if name:
            records[index] = replace(image, name=name)
            what = LAST_PART if last_part(name) == last_part(image.name) else OTHER_SPELLING
            tally.assume(what, f"{image.place}, {image.name}")
    assumed = (*labels.counts.assumed, *tally.counts().assumed)
    return replace(labels, images=tuple(records), counts=replace(labels.counts, assumed=assumed))


def _find_entry(folder: Path, name: str, listings: Listings, *, below_alone: bool = False) -> str:
    """File name that is not below the folder as given -> the one that is meant; "" where that is not certain.

    Looked for in the same folder below, and in the folder itself, unless `below_alone`.
    """
    parent = PurePosixPath(name.replace("\\", "/")).parent
    for place in dict.fromkeys([parent] if below_alone else [parent, PurePosixPath()]):
        if place not in listings:
            listings[place] = _entries(folder / place)
        found = _same_name(name, listings[place].get(name_key(name), []))
        if found and files.is_file(folder / place / found):
            return (place / found).as_posix()
    return ""


def _same_name(name: str, found: Sequence[str]) -> str:
    """File name, and the files with the same key -> the one that is meant; "" where that is not certain."""
    if last_part(name) in found:
        return last_part(name)
    return found[0] if len(found) == 1 else ""


def _entries(folder: Path) -> dict[str, list[str]]:
    """Folder -> the names in it by their keys; none where it cannot be read."""
    found: dict[str, list[str]] = {}
    for name in _names_in(folder):
        found.setdefault(name_key(name), []).append(name)
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (OSError, ValueError):
        return []
