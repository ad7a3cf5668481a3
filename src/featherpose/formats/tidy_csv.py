"""poses.csv: a tidy table (Wickham 2014) for spreadsheets, pandas and R, one row per keypoint.

image,person,keypoint,x,y,score
a.jpg,0,nose,101.25,80.50,0.9312

Where persons were tracked, a column `id` follows `person`. `person` counts the persons of an image from 0. A number
that is not finite is an empty field. UTF-8; an image name that contains a comma, a quote or a line break is quoted as
RFC 4180 says.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featherpose import files
from featherpose.errors import InputError, did_you_mean
from featherpose.formats import file_names, keypoints
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

FILE = "poses.csv"
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_COLUMNS = ["image", "person", "keypoint", "x", "y", "score"]
_TRACKED_COLUMNS = ["image", "person", "id", "keypoint", "x", "y", "score"]


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/poses.csv; returns what was written."""
    tracked = any(found.ids is not None for found in poses.values())
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_TRACKED_COLUMNS if tracked else _COLUMNS)
    for name, found in poses.items():
        table.writerows(_rows(name, found, tracked))
    file_name = file_names.of_shard(FILE, shard)
    files.make_folder(folder)
    # A file name that is not UTF-8 keeps its bytes.
    files.replace(folder / file_name, text.getvalue().encode("utf-8", "surrogateescape"))
    return file_name


def read(folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size], *, shard: str = "") -> dict[str, Poses]:
    """FOLDER/poses.csv and the images' sizes -> Poses by image name; the rows may be in any order.

    An image of `image_sizes` without rows has no persons. Box scores are 1, boxes the bounds of the keypoints.
    InputError names the first line that is wrong.
    """
    path = folder / file_names.of_shard(FILE, shard)
    persons: dict[str, dict[int, _Person]] = {name: {} for name in image_sizes}
    for line, row in _lines(path):
        try:
            _add(row, persons, skeleton)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
    poses: dict[str, Poses] = {}
    for name, found in persons.items():
        try:
            poses[name] = _to_poses(found, skeleton, image_sizes[name])
        except InputError as error:
            raise InputError(f"{path}: {name}: {error}") from None
    return poses


def _rows(name: str, poses: Poses, tracked: bool) -> Iterator[list[object]]:
    for i in range(len(poses)):
        track = [] if not tracked else [""] if poses.ids is None else [int(poses.ids[i])]
        points = zip(poses.skeleton.keypoint_names, poses.keypoints[i].tolist(), poses.scores[i].tolist(), strict=True)
        for keypoint, (x, y), score in points:
            yield [name, i, *track, keypoint, _text(x, 2), _text(y, 2), _text(score, 4)]


@dataclass
class _Person:
    """x, y, score by name of the keypoint, and the id, empty where persons were not tracked."""

    track: str
    keypoints: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Path -> line number, and value by column, of each row."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Wanted a poses.csv.") from None
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(table, [])
        if columns not in (_COLUMNS, _TRACKED_COLUMNS):
            wanted = ",".join(_COLUMNS)
            raise InputError(f"{path}, line 1: the columns are {','.join(columns)!r}, wanted {wanted!r}.")
        for row in table:
            if len(row) != len(columns):
                raise InputError(f"{path}, line {table.line_num}: {len(row)} columns, wanted {len(columns)}.")
            yield table.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: not CSV ({error}).") from None


def _add(row: dict[str, str], persons: dict[str, dict[int, _Person]], skeleton: Skeleton) -> None:
    """Put one row into `persons`, by image and number of the person."""
    image = row["image"]
    name = row["keypoint"]
    if image not in persons:
        raise InputError(f"the image {image!r} is not among the given ones.{did_you_mean(image, persons)}")
    if name not in skeleton.keypoint_names:
        raise InputError(f"unknown keypoint {name!r}.{did_you_mean(name, skeleton.keypoint_names)}")
    track = row.get("id", "")
    if track:
        _whole(track, "id")
    person = persons[image].setdefault(_whole(row["person"], "person"), _Person(track))
    if person.track != track:
        raise InputError(f"id is {track!r}, but {person.track!r} in another row of person {row['person']}.")
    if name in person.keypoints:
        raise InputError(f"a second {name} of person {row['person']} in {image!r}.")
    x, y, score = (_number(row[column], column) for column in ("x", "y", "score"))
    person.keypoints[name] = (x, y, score)


def _to_poses(persons: dict[int, _Person], skeleton: Skeleton, image_size: Size) -> Poses:
    for number, person in persons.items():
        missing = [name for name in skeleton.keypoint_names if name not in person.keypoints]
        if missing:
            raise InputError(f"person {number} lacks the keypoint {missing[0]}; wanted all {skeleton.num_keypoints}.")
    ordered = [persons[number] for number in sorted(persons)]
    values = [[person.keypoints[name] for name in skeleton.keypoint_names] for person in ordered]
    tracks = [person.track for person in ordered]
    if "" in tracks and any(tracks):
        raise InputError("only some of its persons have an id.")
    ids = None if "" in tracks else [int(track) for track in tracks]
    return keypoints.to_poses(values, skeleton, image_size, ids)


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _number(text: str, what: str) -> float:
    return keypoints.number(text, what) if text else math.nan


def _whole(text: str, what: str) -> int:
    # Not int(text), which also takes "1_000".
    if not _WHOLE.fullmatch(text):
        raise InputError(f"{what} is {text!r}, wanted a whole number.")
    return int(text)
