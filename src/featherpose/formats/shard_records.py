"""Records of shards: the JSON beside each image of a WebDataset shard, of one person (a sample) or of all (a scene).

Sample: `keypoints` [[x, y, v] ...], `skeleton` (a name, or all of it as `Skeleton.to_dict` gives it), `box_xywh`,
`image`, `source`, `width`, `height` and, where known, `area` and `scale`. Scene: `people`, each with `box_xywh` and,
where known, `iscrowd`, `area`, `keypoints` (17, COCO's order), `label` and `score`; and `image`, `source`, `width`,
`height` and, where known, `split` and `scale`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featherpose import files
from featherpose.errors import InputError, did_you_mean
from featherpose.formats import values
from featherpose.records import PersonRecord
from featherpose.size import Size
from featherpose.skeleton import COCO17, SKELETONS, Skeleton

TEACHER = "teacher"
"""Label of a person whom no human labeled."""


@dataclass(frozen=True)
class StoredImage:
    """What a record says about its image."""

    name: str
    """Of the original image."""
    source: str
    """Data set, such as "coco"."""
    split: str
    """Part of the data set, such as "train2017"; empty where not known."""
    size: Size
    """Of the stored image."""
    scale: float
    """Stored pixels per pixel of the original image."""


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """One labeled person, whose box has an area, and keypoints in the order of `skeleton`."""

    image: StoredImage
    person: PersonRecord
    skeleton: Skeleton


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """All people of an image; boxes as given. The score of a person is that of the teacher who labeled it."""

    image: StoredImage
    people: tuple[PersonRecord, ...]


def read_sample(content: bytes) -> SampleRecord:
    """JSON of a sample -> the record; InputError names the key that is wrong."""
    record = _object(content)
    skeleton = _skeleton(_given(record, "skeleton"))
    _given(record, "keypoints")
    person = _person(record, skeleton, 0, "")
    assert person.box_xywh is not None  # _person
    if not (person.box_xywh[2:] > 0).all():
        raise InputError(f"box_xywh is {person.box_xywh.tolist()}, wanted x, y and a width and height above 0")
    return SampleRecord(_image(record), person, skeleton)


def read_scene(content: bytes, index: int = 0) -> SceneRecord:
    """JSON of a scene, and the index of its image, which its people refer to -> the record; InputError as above."""
    record = _object(content)
    entries = record.get("people")
    if not isinstance(entries, list):
        raise InputError(f"people is {values.shown(entries)}, wanted a list of people")
    image = _image(record)
    people: list[PersonRecord] = []
    for number, entry in enumerate(entries):
        place = f"people[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{place} is {values.shown(entry)}, wanted an object")
        people.append(_person(entry, COCO17, index, place))
    return SceneRecord(image, tuple(people))


def _object(content: bytes) -> dict[str, Any]:
    record = files.parse_json(content)
    if not isinstance(record, dict):
        raise InputError(f"the record is a JSON {type(record).__name__}, wanted an object")
    return record


def _given(record: dict[str, Any], key: str, place: str = "") -> Any:
    if values.is_absent(record.get(key)):
        raise InputError(f"{place}{place and ': '}its record lacks {key!r}")
    return record[key]


def _image(record: dict[str, Any]) -> StoredImage:
    width = values.as_side(_given(record, "width"), "width")
    height = values.as_side(_given(record, "height"), "height")
    return StoredImage(
        name=values.as_name(record.get("image"), "image"),
        source=values.as_name(record.get("source"), "source"),
        split=str(record.get("split") or ""),
        size=Size(height=height or 0, width=width or 0),
        scale=values.as_number(record.get("scale", 1.0), "scale"),
    )


def _person(record: dict[str, Any], skeleton: Skeleton, image: int, place: str) -> PersonRecord:
    """A sample, or an entry of `people` -> the person; its box may be without area."""
    before = f"{place}: " if place else ""
    box = values.as_box(_given(record, "box_xywh", place), f"{before}box_xywh")
    assert box is not None  # _given
    is_teacher = record.get("label") == TEACHER
    return PersonRecord(
        image=image,
        id=None,
        category=None,
        crowd=values.as_flag(record.get("iscrowd"), f"{before}iscrowd"),
        area=values.as_optional_number(record.get("area"), f"{before}area"),
        box_xywh=box.astype(np.float32),
        keypoints=values.as_keypoints(record.get("keypoints"), skeleton.num_keypoints, f"{before}keypoints"),
        score=values.as_number(_given(record, "score", place), f"{before}score") if is_teacher else None,
        place=place,
    )


def _skeleton(name: Any) -> Skeleton:
    if isinstance(name, dict):
        return Skeleton.from_dict(name)
    if not isinstance(name, str) or name not in SKELETONS:
        raise InputError(f"skeleton {name!r} is not known.{did_you_mean(str(name), SKELETONS)}")
    return SKELETONS[name]
