"""Labels of YOLO pose data sets (docs.ultralytics.com/datasets/pose) -> persons. `yolo_pose` writes them.

A label file has one line per person: class, center x, center y, width and height of the box, then x, y or x, y, v of
each keypoint; all coordinates are fractions of the image's width or height. v is 0 (not labeled), 1 (hidden) or 2
(visible). Without v, a keypoint at (0, 0) or with a negative coordinate is taken as not labeled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featherpose.errors import InputError
from featherpose.formats import keypoints, values
from featherpose.formats.categories import Category
from featherpose.records import PersonRecord, Tally
from featherpose.size import Size
from featherpose.skeleton import COCO17, Skeleton

AT_ORIGIN = "keypoints at (0, 0) without a visibility, taken as not labeled"


@dataclass(frozen=True)
class YoloFormat:
    """What data.yaml says about the labels."""

    skeleton: Skeleton
    num_dims: int
    """Numbers per keypoint: 2 (x, y) or 3 (x, y, v)."""
    categories: tuple[Category, ...]


def read_format(facts: dict[str, Any], name: str, skeleton: Skeleton | None = None) -> YoloFormat:
    """Content of data.yaml, the name of the data set, and its skeleton if known -> YoloFormat.

    Names of keypoints are those of `kpt_names`; without them keypoint_0, keypoint_1, ... Flip pairs are those of
    `flip_idx`. InputError for a value that is wrong.
    """
    shape = facts.get("kpt_shape")
    if not (isinstance(shape, list) and len(shape) == 2 and shape[1] in (2, 3) and isinstance(shape[0], int)):
        raise InputError(f"kpt_shape is {values.shown(shape)}, wanted [number of keypoints, 2 or 3].")
    num_keypoints, num_dims = shape
    categories = _categories(facts.get("names"))
    if skeleton is None:
        skeleton = Skeleton.from_names(name, _keypoint_names(facts.get("kpt_names"), num_keypoints))
        skeleton = _with_flip_order(skeleton, facts.get("flip_idx"))
    if skeleton.num_keypoints != num_keypoints:
        raise InputError(f"{skeleton.num_keypoints} keypoint names ({skeleton.name}) for kpt_shape {shape}.")
    known = skeleton.keypoint_names == COCO17.keypoint_names
    return YoloFormat(COCO17 if known else skeleton, num_dims, categories)


def from_text(
    text: str, form: YoloFormat, category: Category, image: int, size: Size, place: str, tally: Tally
) -> list[PersonRecord]:
    """Content of a label file, which category is that of the persons, and index and size of the image -> the persons.

    InputError begins with `place` and the line; `tally` counts the lines, and those of other categories.
    """
    persons: list[PersonRecord] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        tally.total += 1
        where = f"{place}, line {number}"
        numbers = _numbers(line.split(), form, where)
        if values.id_key(int(numbers[0])) != category.key:
            tally.leave_out("of another class", where)
            continue
        persons.append(_person(numbers, form, category, image, size, where, tally))
    return persons


def _person(
    numbers: list[float], form: YoloFormat, category: Category, image: int, size: Size, where: str, tally: Tally
) -> PersonRecord:
    sides = np.array(size.xy, np.float64)
    center = np.array(numbers[1:3]) * sides
    extent = np.array(numbers[3:5]) * sides
    points = np.array(numbers[5:]).reshape(form.skeleton.num_keypoints, form.num_dims)
    if form.num_dims == 3:
        visibility = points[:, 2]
    else:
        at_origin = (points == 0).all(axis=1)
        visibility = np.where(at_origin | (points < 0).any(axis=1), 0, 2)
        if at_origin.any():
            tally.assume(AT_ORIGIN, where)
    seen = visibility > 0
    in_pixels = np.where(seen[:, None], points[:, :2] * sides, 0)
    return PersonRecord(
        image=image,
        id=where,
        category=category.id,
        crowd=False,
        area=None,
        box_xywh=np.concatenate([center - extent / 2, extent]).astype(np.float32) if (extent > 0).all() else None,
        keypoints=np.column_stack([in_pixels, visibility]).astype(np.float32),
        score=None,
        place=where,
    )


def _numbers(words: list[str], form: YoloFormat, where: str) -> list[float]:
    num_keypoints = form.skeleton.num_keypoints
    wanted = 5 + form.num_dims * num_keypoints
    if len(words) != wanted:
        raise InputError(
            f"{where}: {len(words)} numbers, wanted {wanted}: class, 4 of the box, {form.num_dims} for each of"
            f" {num_keypoints} keypoints."
        )
    numbers = [keypoints.number(word, f"{where}: number {position}") for position, word in enumerate(words, 1)]
    if form.num_dims == 3 and not set(numbers[7::3]) <= {0, 1, 2}:
        raise InputError(f"{where}: v of a keypoint is not 0, 1 or 2.")
    return numbers


def _categories(names: Any) -> tuple[Category, ...]:
    """`names`, a list or {index: name} -> categories."""
    by_index = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(by_index, dict) or not by_index:
        raise InputError(f"names is {values.shown(names)}, wanted the names of the classes, such as {{0: person}}.")
    return tuple(Category(int(index), str(name), None, None, f"names[{index}]") for index, name in by_index.items())


def _keypoint_names(names: Any, num_keypoints: int) -> list[str]:
    """`kpt_names`, {class: names} -> the names of the first class; generic ones where none are given."""
    if isinstance(names, dict) and names:
        names = next(iter(names.values()))
    if names is None:
        return [f"keypoint_{index}" for index in range(num_keypoints)]
    if not isinstance(names, list):
        raise InputError(f"kpt_names is {values.shown(names)}, wanted {{0: [names of the keypoints]}}.")
    return [str(name) for name in names]


def _with_flip_order(skeleton: Skeleton, order: Any) -> Skeleton:
    """Skeleton with the flip pairs of `flip_idx`; InputError where it exchanges no keypoints in pairs."""
    if order is None:
        return skeleton
    count = skeleton.num_keypoints
    is_order = isinstance(order, list) and sorted(map(str, order)) == sorted(map(str, range(count)))
    if not is_order or any(order[order[index]] != index for index in range(count)):
        raise InputError(f"flip_idx is {values.shown(order)}, wanted 0 to {count - 1}, each pair exchanged.")
    return replace(skeleton, flip_pairs=tuple((index, order[index]) for index in range(count) if index < order[index]))
