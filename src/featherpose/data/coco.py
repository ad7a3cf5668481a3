"""People with keypoints in COCO's format (Lin et al. 2014): the published files, and data sets of one's own.

Two layouts of a folder are known:

    person_keypoints.json                          photos in images/
    annotations/person_keypoints_SPLIT.json        photos in SPLIT/ or images/SPLIT/, as COCO is published

The JSON is kept as it stands, because the metrics are defined on it: `images` (id, file_name, width, height),
`annotations` (image_id, category_id, `bbox` x y width height, `keypoints` x1 y1 v1 x2 ... in pixels, and where known
`area`, `iscrowd`, `num_keypoints`) and `categories` with the names of the joints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from featherpose.data.folder import find_folder
from featherpose.errors import DataError
from featherpose.skeleton import SKELETONS, Skeleton

FILE = "person_keypoints.json"

Record = Mapping[str, Any]  # one image, annotation or category


@dataclass(frozen=True, eq=False)
class Coco:
    """A data set in COCO's format: its JSON, the folder that its `file_name`s are in, and the joints it labels."""

    truth: dict[str, Any]
    images: Path
    skeleton: Skeleton


def read_coco(root: str | os.PathLike[str], split: str | None = None) -> Coco:
    """Folder (a path, or a name below FEATHERPOSE_DATA) in a layout as above -> its annotations, checked.

    `split` ("val2017") is needed where the folder holds more than one. Photos are not opened here.
    """
    annotations, images = _find(find_folder(root), split)
    truth = _load(annotations)
    skeleton = _skeleton(truth["categories"], annotations)
    for complaint in _complaints(truth, skeleton):
        raise DataError(f"{annotations}: {complaint}; correct it or take it out.")
    return Coco(truth, images, skeleton)


def _find(root: Path, split: str | None) -> tuple[Path, Path]:
    """Folder -> (annotation file, folder of its photos)."""
    if split is None and (root / FILE).is_file():
        return root / FILE, _photos(root / "images")
    stem = FILE.removesuffix(".json")
    files = {path.stem.removeprefix(stem + "_"): path for path in (root / "annotations").glob(f"{stem}_*.json")}
    if split is None and len(files) == 1:
        split = next(iter(files))
    if split in files:
        return files[split], _photos(root / split, root / "images" / split)
    wanted = f"{FILE} or annotations/{stem}_{split or 'SPLIT'}.json"
    raise DataError(f"{root}: there is no {wanted}; splits found: {', '.join(sorted(files)) or 'none'}.")


def _photos(*folders: Path) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(f"There is no folder {' or '.join(map(str, folders))} with the photos; put them there.")


def _load(path: Path) -> dict[str, Any]:
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); copy or write it again.") from None
    for key in ("images", "annotations", "categories"):
        if not (isinstance(truth, dict) and isinstance(truth.get(key), list)):
            raise DataError(
                f"{path} has no list `{key}`; a COCO annotation file (images, annotations, categories) is wanted."
            )
    return truth


def _skeleton(categories: Iterable[Record], path: Path) -> Skeleton:
    """Categories -> the skeleton whose joints they name, in the same order; never guessed from their number."""
    named = {tuple(category["keypoints"]) for category in categories if category.get("keypoints")}
    known = [skeleton for skeleton in SKELETONS.values() if named == {skeleton.joints}]
    if not known:
        seen = "; ".join(", ".join(joints) for joints in sorted(named)) or "no joints"
        raise DataError(f"{path} names {seen}; wanted the joints of {' or '.join(SKELETONS)} in their order.")
    return known[0]


def _complaints(truth: Record, skeleton: Skeleton) -> Iterable[str]:
    """Annotation file -> a sentence for each record that cannot be used."""
    lacking = (f"an image lacks {key} ({record})" for record in truth["images"] for key in _lacks(record))
    yield from lacking
    photos = {record["id"] for record in truth["images"]}
    if len(photos) < len(truth["images"]):
        yield "two images have the same id"
    posed = {category["id"] for category in truth["categories"] if category.get("keypoints")}
    for record in truth["annotations"]:
        if complaint := _complaint(record, photos, posed, skeleton):
            yield f"annotation {record.get('id')} {complaint}"


def _lacks(image: Record) -> list[str]:
    return [key for key in ("id", "file_name", "width", "height") if key not in image]


def _complaint(record: Record, photos: set[Any], posed: set[Any], skeleton: Skeleton) -> str | None:
    """One annotation -> what is wrong with it, or None."""
    if record.get("image_id") not in photos:
        return f"is about image {record.get('image_id')}, which is not listed"
    if not _numbers(record.get("bbox"), 4):
        return f"has the bbox {record.get('bbox')}, wanted x, y, width, height"
    joints = record.get("keypoints")
    if record.get("category_id") in posed and joints is not None and not _numbers(joints, 3 * skeleton.num_joints):
        return f"has keypoints {str(joints)[:40]}, wanted x, y, v of {skeleton.num_joints} joints"
    return None


def _numbers(values: Any, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(isinstance(value, int | float) and isfinite(value) for value in values)
