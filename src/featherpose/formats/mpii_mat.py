"""MPII's own annotation file, mpii_human_pose_v1_u12_1.mat (human-pose.mpi-inf.mpg.de), read and written with scipy.

    RELEASE.annolist(i).image.name                     file name
    RELEASE.annolist(i).annorect(r)                    a person: x1 y1 x2 y2 (head rectangle), scale, objpos.x .y
    RELEASE.annolist(i).annorect(r).annopoints.point   keypoints: x, y, id (0 to 15), is_visible
    RELEASE.img_train(i)                               1 training, 0 test: there, keypoints are withheld
    RELEASE.single_person{i}                           numbers r, from 1, of persons apart from others

Coordinates count from 1. Fields that a person lacks are empty or absent.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.formats import mat
from featherpose.formats.mpii import NO_CENTER, MpiiPerson
from featherpose.records import UNLABELED, Counts, Tally
from featherpose.skeleton import MPII16

HEAD_BOX_TO_SIZE = 0.6
"""MPII's head size is 0.6 of the head box's diagonal."""
NOT_APART = "too close to others for the single-person test"


def read(path: Path, *, train: bool) -> tuple[list[MpiiPerson], list[str], Counts]:
    """The .mat file -> persons, names of all images of the part, and counts.

    `train`: the persons with keypoints of the training part (HRNet calls it trainval); else those of the hidden test
    part that are apart from others, which have a center and a scale alone. InputError for a file that is none.
    """
    release = _release(path)
    is_train = _list(release, "img_train")
    singles = _list(release, "single_person")
    tally = Tally(f"persons of {path.name}")
    persons: list[MpiiPerson] = []
    names: list[str] = []
    for index, image in enumerate(_list(release, "annolist")):
        if bool(is_train[index]) != train:
            continue
        name = str(image.image.name)
        names.append(name)
        apart = None if train else {int(number) - 1 for number in np.atleast_1d(singles[index]).ravel()}
        for rectangle, record in enumerate(_list(image, "annorect")):
            tally.total += 1
            place = f"annolist({index + 1}).annorect({rectangle + 1})"
            if apart is not None and rectangle not in apart:
                tally.leave_out(NOT_APART, place)
            elif (person := _person(record, name, rectangle, place, tally, train)) is not None:
                persons.append(person)
    return persons, names, tally.counts()


def head_sizes(path: Path) -> NDArray[np.float64]:
    """HRNet's annot/gt_valid.mat -> head sizes (N,) in pixels of the persons of valid.json, in their order."""
    boxes = np.asarray(mat.load(path).get("headboxes_src", ()), np.float64)
    if boxes.ndim != 3 or boxes.shape[:2] != (2, 2):
        raise InputError(f"{path}: there is no headboxes_src (2, 2, N); wanted HRNet's gt_valid.mat.")
    return HEAD_BOX_TO_SIZE * np.linalg.norm(boxes[1] - boxes[0], axis=0)


def submission(images: Sequence[str], found: Mapping[str, Mapping[int, NDArray[np.float64]]]) -> bytes:
    """Names of all test images, and keypoints (16, 2) 0-based by image and number of the person from 0 -> the content
    of pred_keypoints_mpii.mat: `pred(i).annorect(r).annopoints.point(k)` with x and y, counted from 1, and id."""
    savemat = mat.scipy_io().savemat
    pred = np.empty((1, len(images)), [("annorect", object)])
    for index, name in enumerate(images):
        pred["annorect"][0, index] = _rectangles(found.get(name, {}))
    data = io.BytesIO()
    savemat(data, {"pred": pred}, do_compression=True)
    return data.getvalue()


def flat_submission(keypoints: NDArray[np.float64]) -> bytes:
    """Keypoints (N, 16, 2) 0-based in the order of HRNet's test.json -> the content of HRNet's pred.mat: `preds`
    (N, 16, 2), counted from 1."""
    data = io.BytesIO()
    mat.scipy_io().savemat(data, {"preds": keypoints + 1.0}, do_compression=True)
    return data.getvalue()


def _rectangles(found: Mapping[int, NDArray[np.float64]]) -> NDArray[Any]:
    """Keypoints by number of the person -> annorect up to the last one; the persons between have no points."""
    rectangles = np.empty((1, max(found, default=-1) + 1), [("annopoints", object)])
    for rectangle in range(rectangles.shape[1]):
        keypoints = found.get(rectangle, np.zeros((0, 2))) + 1.0
        points = np.zeros((1, len(keypoints)), [("x", object), ("y", object), ("id", object)])
        for index, (x, y) in enumerate(keypoints.tolist()):
            points[0, index] = (x, y, float(index))
        rectangles["annopoints"][0, rectangle] = {"point": points}
    return rectangles


def _person(record: Any, image: str, rectangle: int, place: str, tally: Tally, train: bool) -> MpiiPerson | None:
    """One annorect -> the person; None where a box or, for training, keypoints are missing, which is counted."""
    position = getattr(record, "objpos", None)
    scale = _number(record, "scale")
    x, y = _number(position, "x"), _number(position, "y")
    if not scale or scale <= 0 or x is None or y is None:
        tally.leave_out(NO_CENTER, place)
        return None
    keypoints = np.zeros((MPII16.num_keypoints, 2))
    visibility = np.zeros(MPII16.num_keypoints, np.uint8)
    for point in _list(getattr(record, "annopoints", None), "point"):
        index = int(_number(point, "id") or 0)
        keypoints[index] = [(_number(point, axis) or 0.0) - 1 for axis in ("x", "y")]
        # Not given for some keypoints: those are taken as visible.
        visibility[index] = 1 if _number(point, "is_visible") == 0 else 2
    if train and not visibility.any():
        tally.leave_out(UNLABELED, place)
        return None
    corners = [_number(record, name) for name in ("x1", "y1", "x2", "y2")]
    head_size = None
    if all(corner is not None for corner in corners):
        left, top, right, bottom = np.array(corners, np.float64)
        head_size = float(HEAD_BOX_TO_SIZE * np.hypot(right - left, bottom - top)) or None
    center = np.array((x, y)) - 1
    return MpiiPerson(image, keypoints, visibility, center, scale, head_size, place, rectangle)


def _release(path: Path) -> Any:
    release = mat.load(path).get("RELEASE")
    if not all(hasattr(release, field) for field in ("annolist", "img_train", "single_person")):
        raise InputError(f"{path}: there is no RELEASE with annolist, img_train and single_person; wanted MPII's file.")
    return release


def _list(struct: Any, field: str) -> list[Any]:
    """A struct and a field -> its values; empty where it lacks the field."""
    value = getattr(struct, field, None)
    if value is None:
        return []
    # A cell array with lists inside stays nested: only its first dimension counts.
    return list(value) if isinstance(value, np.ndarray) else [value]


def _number(struct: Any, field: str) -> float | None:
    """A struct and a field -> its number, which may be text; None where it is absent or empty."""
    value = getattr(struct, field, None)
    if value is None or np.size(value) == 0 or value == "":
        return None
    return float(np.ravel(value)[0])
