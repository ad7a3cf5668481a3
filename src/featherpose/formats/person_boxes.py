"""Person boxes by image name, from plain JSON, COCO annotations or COCO detections."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.boxes import xywh_to_xyxy
from featherpose.errors import InputError
from featherpose.formats.coco import image_number

PERSON = 1
_WANTED = (
    'wanted {"photo.jpg": [[left, top, right, bottom], ...], ...}, COCO annotations ({"images": ..., "annotations": '
    '...}) or COCO detections ([{"image_id", "bbox", "score"}, ...])'
)

Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes (N, 4) left, top, right, bottom in pixels, and their scores (N,)."""


@dataclass(frozen=True)
class PersonBoxes:
    """Boxes by image name.

    `complete`: COCO detections, which name an image by its id and leave out images without a person. In the other
    formats an image without an entry is missing.
    """

    by_name: dict[str, Boxes]
    complete: bool = False

    def of(self, name: str, *, whole_name: bool = False) -> Boxes | None:
        """Boxes of an image, None if its entry is missing.

        Looked up by the name as given, then without folders, without suffix, and by its number, which is how COCO
        detections refer to "000000000785.jpg". `whole_name`: only as given, for a name that two folders share.
        """
        path = PurePosixPath(name)
        number = image_number(name)
        short = [path.name, path.stem, path.stem if number is None else str(number)]
        for key in [name] if whole_name else [name, *short]:
            if key in self.by_name:
                return self.by_name[key]
        return _boxes(name, []) if self.complete and not whole_name else None


def read(path: Path, wanted: str = "") -> PersonBoxes:
    """JSON file in one of the three formats -> PersonBoxes. `wanted`: what to do where the file cannot be read."""
    values = files.read_json(path, wanted)
    try:
        return from_json(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def from_json(values: Any) -> PersonBoxes:
    """A JSON value in one of the three formats -> PersonBoxes. Crowds and categories other than person are left out."""
    try:
        if isinstance(values, dict) and "annotations" in values:
            return _from_annotations(values)
        if isinstance(values, dict):
            plain = {str(name): [(box, 1.0) for box in rows] for name, rows in values.items()}
            return PersonBoxes({name: _boxes(name, rows) for name, rows in plain.items()})
        if isinstance(values, list):
            return _from_detections(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The boxes cannot be parsed ({type(error).__name__}: {error}); {_WANTED}.") from None
    raise InputError(f"The boxes are a JSON {type(values).__name__}; {_WANTED}.")


def _from_annotations(values: dict[str, Any]) -> PersonBoxes:
    categories = values.get("categories", [])
    person_categories = {c["id"] for c in categories if c["name"] == "person" or c.get("keypoints")} or {PERSON}
    rows: dict[Any, list[tuple[Any, float]]] = {image["id"]: [] for image in values["images"]}
    for person in values["annotations"]:
        if person["category_id"] in person_categories and not person.get("iscrowd", 0):
            rows[person["image_id"]].append((person["bbox"], 1.0))
    names = {image["id"]: image["file_name"] for image in values["images"]}
    return PersonBoxes({names[image_id]: _from_xywh(names[image_id], found) for image_id, found in rows.items()})


def _from_detections(values: list[Any]) -> PersonBoxes:
    rows: defaultdict[str, list[tuple[Any, float]]] = defaultdict(list)
    for person in values:
        if person.get("category_id", PERSON) == PERSON:
            rows[str(person["image_id"])].append((person["bbox"], float(person.get("score", 1))))
    return PersonBoxes({name: _from_xywh(name, found) for name, found in rows.items()}, complete=True)


def _from_xywh(name: str, rows: list[tuple[Any, float]]) -> Boxes:
    boxes_xywh, scores = _boxes(name, rows)
    return xywh_to_xyxy(boxes_xywh), scores


def _boxes(name: str, rows: list[tuple[Any, float]]) -> Boxes:
    if not all(isinstance(box, list) and len(box) == 4 for box, _ in rows):
        raise InputError(f"{name}: a box is not four numbers; {_WANTED}.")
    try:
        boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    except (ValueError, TypeError):
        raise InputError(f"{name}: a box is not four numbers; {_WANTED}.") from None
    return boxes, np.array([score for _, score in rows], np.float32)
