"""YOLO pose data sets (docs.ultralytics.com/datasets/pose): a data.yaml, images, and a label file for each image.

    data.yaml             path, train, val, test (a folder of images, a list of files in a .txt, or several of them),
                          kpt_shape, flip_idx, names, kpt_names
    images/train/a.jpg    labels/train/a.txt

An image without a label file shows nobody. Where data.yaml has no `kpt_names`, `skeleton.yaml` beside it may name the
keypoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featherpose import images
from featherpose.data.coco import SKELETON_FILE
from featherpose.data.dataset import Dataset
from featherpose.data.folder import split_of
from featherpose.errors import DataError, InputError
from featherpose.formats import values, yolo_labels
from featherpose.formats.categories import choose
from featherpose.records import Id, ImageRecord, Labels, PersonRecord, Tally
from featherpose.skeleton import Skeleton

FILE = "data.yaml"
SPLITS = ("train", "val", "test")

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")


def splits(place: Path) -> Mapping[str, Path]:
    """data.yaml, or the folder that contains it -> the file for each of its splits; empty where it is not YOLO's."""
    file = place / FILE if place.is_dir() else place
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        return {}
    try:
        facts = _facts(file)
    except InputError:
        return {}
    return {split: file for split in SPLITS if facts.get(split)} if "kpt_shape" in facts else {}


def read_dataset(place: Path, split: str | None = None, category: Id | None = None) -> Dataset:
    """data.yaml or its folder, split and class of the persons (name or number) -> the data set.

    DataError names the first file, line and value that is wrong. The size of each image is read from its file.
    """
    found = splits(place)
    split = split_of(place, found, split)
    file = found[split]
    try:
        facts = _facts(file)
        root = _root(file, facts)
        beside = file.parent / SKELETON_FILE
        skeleton = Skeleton.from_yaml(beside) if beside.is_file() else None
        name = file.parent.name if file.name == FILE else file.stem
        form = yolo_labels.read_format(facts, name, skeleton)
        labels = _labels(_image_files(root, facts[split]), root, form, name, category)
    except InputError as error:
        raise DataError(f"{file}: {error}") from None
    return Dataset(labels, root)


def _labels(paths: list[Path], root: Path, form: yolo_labels.YoloFormat, name: str, wanted: Id | None) -> Labels:
    texts = [_label_text(path) for path in paths]
    used = Counter(line.split()[0] for text in texts for line in text.splitlines() if line.strip())
    category = choose(form.categories, used, wanted, posed=False)
    tally = Tally(f"lines of {name}")
    records: list[ImageRecord] = []
    persons: list[PersonRecord] = []
    for path, text in zip(paths, texts, strict=True):
        inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        try:
            size = images.read_size(path)
        except InputError as error:
            tally.leave_out("images that cannot be read", str(error))
            tally.total += 1
            continue
        label_name = _label_file(path).name
        persons += yolo_labels.from_text(text, form, category, len(records), size, label_name, tally)
        records.append(ImageRecord(inside, inside, size, inside))
    return Labels(tuple(records), tuple(persons), form.skeleton, name, category.id, category.name, tally.counts())


def _facts(file: Path) -> dict[str, Any]:
    import yaml

    try:
        facts = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read as YAML ({error}).") from None
    return facts if isinstance(facts, dict) else {}


def _root(file: Path, facts: dict[str, Any]) -> Path:
    """Folder that the splits are relative to: `path`, where it exists beside data.yaml, or that of the file."""
    named = file.parent / str(facts.get("path") or ".")
    return named.resolve() if named.is_dir() else file.parent.resolve()


def _image_files(root: Path, entry: Any) -> list[Path]:
    """A folder, a .txt with one image a line, or a list of them -> the images, sorted within each folder."""
    found: list[Path] = []
    for name in entry if isinstance(entry, list) else [entry]:
        place = root / str(name)
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES)
        elif place.is_file():
            lines = place.read_text(encoding="utf-8").splitlines()
            found += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise InputError(f"{values.shown(name)} is neither a folder nor a file in {root}.")
    return found


def _label_file(image: Path) -> Path:
    """Path of an image -> that of its labels: the last folder `images` replaced by `labels`, the suffix by .txt."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _label_text(image: Path) -> str:
    """Labels of an image; empty where it has none."""
    file = _label_file(image)
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}).") from None
