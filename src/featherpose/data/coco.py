"""COCO keypoint annotations (Lin et al. 2014): the published files, and custom data sets in the same format.

A data set is given by the path of its file, with images next to it or in `images/` there, or by a folder in one of two
layouts:

    person_keypoints.json                          images in images/
    annotations/person_keypoints_SPLIT.json        images in SPLIT/ or images/SPLIT/, as COCO is published

The JSON is kept unchanged, because the metrics are defined on it: `images` (id, file_name, width, height),
`annotations` (image_id, category_id, `bbox` x y width height, `keypoints` x1 y1 v1 x2 ... in pixels, and where known
`area`, `iscrowd`, `num_keypoints`) and `categories`, one of which lists the names of the keypoints (`keypoints`) and
the limbs (`skeleton`, counted from 1). One thing is added: a person without a `bbox` gets one, from its keypoints.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.data.folder import find_data
from featherpose.errors import DataError, InputError
from featherpose.skeleton import SKELETONS, Skeleton

FILE = "person_keypoints.json"
BOX_MARGIN = 0.15
"""Margin of a box around keypoints, as a fraction of their larger extent: a head extends beyond its keypoints."""

_STEM = FILE.removesuffix(".json")

Record = Mapping[str, Any]  # one image, annotation or category


@dataclass(frozen=True, eq=False)
class Coco:
    """A data set in COCO's format: its JSON, the folder of its `file_name`s, and the skeleton it annotates."""

    truth: dict[str, Any]
    images: Path
    skeleton: Skeleton
    name: str = ""
    """Name of the file or folder that it was read from."""
    num_computed_boxes: int = 0
    """Number of persons whose box was computed from keypoints."""

    @property
    def category(self) -> Any:
        """Id of the category with keypoints."""
        return _keypoint_categories(self.truth)[0]["id"]


def is_coco(place: Path) -> bool:
    """Path -> whether it is a JSON file, or a folder in one of the layouts above."""
    return place.suffix.lower() == ".json" or (place / FILE).is_file() or bool(_splits(place))


def read_coco(root: str | os.PathLike[str], split: str | None = None) -> Coco:
    """JSON file, or folder (a path, or a name in FEATHERPOSE_DATA) in a layout as above -> its validated annotations.

    `split` ("val2017") is required where the folder contains more than one. Images are not opened here. DataError names
    the first record that is wrong.
    """
    place = find_data(root)
    annotations, folders = _find(place, split)
    truth = _load(annotations)
    skeleton = _skeleton(truth, annotations, place.stem)
    # Before the check: a person who gets a box here is not reported as one without.
    num_computed_boxes = _fill_boxes(truth, _keypoint_categories(truth)[0]["id"])
    complaints = list(_find_errors(truth, skeleton))
    if complaints:
        more = f" ({len(complaints) - 1} more records are wrong)" if complaints[1:] else ""
        raise DataError(f"{annotations}: {complaints[0]}; correct or remove it{more}.")
    # A folder has one of two known layouts; next to a file, the images may be anywhere nearby.
    image_folder = _with_any_image(annotations, folders, truth) if place.is_file() else _existing(folders)
    return Coco(truth, image_folder, skeleton, place.stem, num_computed_boxes)


def _find(place: Path, split: str | None) -> tuple[Path, list[Path]]:
    """JSON file or folder -> (annotation file, folders where its images may be)."""
    if place.is_file():
        return place, _image_folder_candidates(place)
    if split is None and (place / FILE).is_file():
        return place / FILE, [place / "images"]
    by_split = _splits(place)
    if split is None and len(by_split) == 1:
        split = next(iter(by_split))
    if split in by_split:
        return by_split[split], [place / split, place / "images" / split]
    wanted = f"{FILE} or annotations/{_STEM}_{split or 'SPLIT'}.json"
    raise DataError(f"{place}: there is no {wanted}; splits found: {', '.join(sorted(by_split)) or 'none'}.")


def _splits(folder: Path) -> dict[str, Path]:
    """Folder in the layout of published COCO -> its annotation files, by split."""
    found = sorted((folder / "annotations").glob(f"{_STEM}_*.json"))
    return {path.stem.removeprefix(_STEM + "_"): path for path in found}


def _image_folder_candidates(file: Path) -> list[Path]:
    """JSON file given by its path -> the folders where its images may be, most likely first."""
    roots = [file.parent, file.parent.parent] if file.parent.name == "annotations" else [file.parent]
    split = file.stem.removeprefix(_STEM + "_")
    return [root / inner for root in roots for inner in ("", "images", split, f"images/{split}")]


def _existing(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(f"There is no image folder {' or '.join(map(str, folders))}; put the images there.")


def _with_any_image(file: Path, folders: Sequence[Path], truth: Record) -> Path:
    """The first folder that contains any of the images; the first one for a file that lists none."""
    names = [str(record["file_name"]) for record in truth["images"]]
    for folder in folders:
        if not names or any((folder / name).is_file() for name in names):
            return folder
    raise DataError(f"{file}: its images ({names[0]}, ...) are neither next to it nor in {folders[1]}; put them there.")


def _load(path: Path) -> dict[str, Any]:
    truth = files.read_json(path, "Copy or write it again.", error=DataError)
    for key in ("images", "annotations", "categories"):
        records = truth.get(key) if isinstance(truth, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise DataError(
                f"{path} has no list `{key}` of records; wanted a COCO annotation file (images, annotations,"
                " categories)."
            )
    return truth


def _keypoint_categories(truth: Record) -> list[Record]:
    """The categories with keypoints."""
    return [category for category in truth["categories"] if category.get("keypoints")]


def _skeleton(truth: Record, path: Path, name: str) -> Skeleton:
    """Annotation file -> the built-in skeleton with the same keypoint names in the same order, or a new one."""
    posed = _keypoint_categories(truth)
    if not posed:
        raise DataError(
            f'{path}: no category lists keypoint names; add "keypoints" to categories[0], like ["nose", "tail"].'
        )
    if len(posed) > 1:
        names = ", ".join(str(category.get("name")) for category in posed)
        raise DataError(f"{path}: several categories have keypoints ({names}); write one file per category.")
    category = posed[0]
    keypoint_names = category["keypoints"]
    limbs = category.get("skeleton") or []
    if not isinstance(limbs, list):
        limbs = [limbs]  # refused below, by the message about limbs
    if not _are_names(keypoint_names):
        raise DataError(
            f"{path}: the keypoints of category {category.get('name')} are {keypoint_names}; wanted a list of names."
        )
    if "id" not in category:
        raise DataError(f"{path}: category {category.get('name')} has no id; annotations refer to it as category_id.")
    # The built-in skeleton has measured sigmas and colors, which the file does not have.
    known = [skeleton for skeleton in SKELETONS.values() if skeleton.keypoint_names == tuple(keypoint_names)]
    if known:
        return known[0]
    try:
        return Skeleton.from_names(name, keypoint_names, [_limb(limb, len(keypoint_names), path) for limb in limbs])
    except InputError as error:
        raise DataError(f"{path}: {error}") from None


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(name, str) and name.strip() for name in values)


def _limb(limb: Any, num_keypoints: int, path: Path) -> tuple[int, int]:
    """Two keypoint indices counted from 1 -> the same counted from 0."""
    if not _numbers(limb, 2) or not all(keypoint in range(1, num_keypoints + 1) for keypoint in limb):
        raise DataError(
            f"{path}: {limb} in `skeleton` is not a limb; wanted two keypoints, counted from 1 to {num_keypoints}."
            " Without `skeleton` no limbs are drawn."
        )
    return int(limb[0]) - 1, int(limb[1]) - 1


def _fill_boxes(truth: Record, category: Any) -> int:
    """Give persons of the category that have no box one computed from their keypoints -> number of these persons."""
    num_computed_boxes = 0
    for record in truth["annotations"]:
        keypoints = record.get("keypoints") or []
        lacks_box = record.get("category_id") == category and not record.get("bbox")
        if lacks_box and isinstance(keypoints, list) and _numbers(keypoints, len(keypoints)):
            box = _box_from_keypoints(keypoints)
            record["bbox"] = box
            # Four zeros, for a person without labeled keypoints, are no box to tell the user about.
            if box and any(box):
                num_computed_boxes += 1
    return num_computed_boxes


def _box_from_keypoints(keypoints: Sequence[float]) -> list[float] | None:
    """x, y, v of all keypoints -> box x, y, width, height around the labeled ones; None where they are one point.

    A person without labeled keypoints, whom neither training nor the metrics use, gets a box without an area.
    """
    labeled = [(x, y) for x, y, v in zip(keypoints[::3], keypoints[1::3], keypoints[2::3], strict=False) if v > 0]
    if len(set(labeled)) < 2:
        return None if labeled else [0.0] * 4
    xs = [x for x, _ in labeled]
    ys = [y for _, y in labeled]
    left = min(xs)
    top = min(ys)
    width = max(xs) - left
    height = max(ys) - top
    margin = BOX_MARGIN * max(width, height)
    return [left - margin, top - margin, width + 2 * margin, height + 2 * margin]


def _find_errors(truth: Record, skeleton: Skeleton) -> Iterable[str]:
    """Annotation file -> a message for each record that cannot be used."""
    for record in truth["images"]:
        yield from (f"an image lacks {key} ({record})" for key in _missing_keys(record))
        if not all(isinstance(record.get(side), int) and record[side] > 0 for side in ("width", "height")):
            yield f"image {record.get('file_name')} has width {record.get('width')} and height {record.get('height')}"
    image_ids = {record.get("id") for record in truth["images"]}
    if len(image_ids) < len(truth["images"]):
        yield "two images have the same id"
    posed = {category["id"] for category in _keypoint_categories(truth)}
    for record in truth["annotations"]:
        if complaint := _annotation_error(record, image_ids, posed, skeleton):
            yield f"annotation {record.get('id')} {complaint}"


def _missing_keys(image: Record) -> list[str]:
    return [key for key in ("id", "file_name", "width", "height") if key not in image]


def _annotation_error(record: Record, image_ids: set[Any], posed: set[Any], skeleton: Skeleton) -> str | None:
    """One annotation -> what is wrong with it, or None."""
    if record.get("image_id") not in image_ids:
        return f"refers to image {record.get('image_id')}, which is not listed"
    # Records of other categories (cars, kites) need only a box.
    is_posed = record.get("category_id") in posed
    keypoints = record.get("keypoints")
    if is_posed and keypoints is not None:
        if not isinstance(keypoints, list) or len(keypoints) != 3 * skeleton.num_keypoints:
            seen = len(keypoints) if isinstance(keypoints, list) else keypoints
            return f"has {seen} numbers for keypoints, wanted x, y, v of {skeleton.num_keypoints} keypoints"
        if not _numbers(keypoints, len(keypoints)) or not set(keypoints[2::3]) <= {0, 1, 2}:
            return f"has keypoints {str(keypoints)[:60]}, wanted finite x and y, and v 0, 1 or 2"
    if is_posed and not record.get("bbox"):
        return "has no bbox and fewer than two labeled keypoints to compute one from"
    if not _numbers(record.get("bbox"), 4):
        return f"has the bbox {record.get('bbox')}, wanted x, y, width, height"
    area = record.get("area")
    if area is not None and not (_numbers([area], 1) and area >= 0):
        return f"has the area {area}, wanted square pixels"
    return None


def _numbers(values: Any, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(isinstance(value, int | float) and isfinite(value) for value in values)
