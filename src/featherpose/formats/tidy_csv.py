"""poses.csv: a tidy table (Wickham 2014) for spreadsheets, pandas and R, one row per keypoint.

image,person,keypoint,x,y,score
a.jpg,0,nose,101.25,80.50,0.9312

Where persons were tracked, a column `id` follows `person`. Frames of a video have the columns `frame`, the index, and
`timestamp` in s after `image`; where gaps were filled, the last column, `interpolated`, is 1 or 0. `person` counts the
persons of an image from 0. A number that is not finite is an empty field. UTF-8; an image name that contains a comma, a
quote or a line break is quoted as RFC 4180 says.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featherpose import files
from featherpose.errors import InputError, did_you_mean
from featherpose.formats import file_names, keypoints
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

FILE = "poses.csv"
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_COLUMNS = ["image", "person", "keypoint", "x", "y", "score"]
_ALL_COLUMNS = ["image", "frame", "timestamp", "person", "id", "keypoint", "x", "y", "score", "interpolated"]


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
    columns = columns_of(
        tracked=any(found.ids is not None for found in poses.values()),
        filled=any(found.interpolated is not None for found in poses.values()),
    )
    content = to_lines([columns]) + b"".join(rows(name, found, columns) for name, found in poses.items())
    file_name = file_names.of_shard(FILE, shard)
    files.make_folder(folder)
    files.replace(folder / file_name, content)
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


def columns_of(*, video: bool = False, tracked: bool = False, filled: bool = False) -> list[str]:
    """Whether rows are of a video, have ids, and say what was interpolated -> the columns."""
    optional = {"frame": video, "timestamp": video, "id": tracked, "interpolated": filled}
    return [name for name in _ALL_COLUMNS if optional.get(name, True)]


def to_lines(table: Iterable[Iterable[object]]) -> bytes:
    """Values of some rows -> their lines. A file name that is not UTF-8 keeps its bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode("utf-8", "surrogateescape")


def rows(name: str, poses: Poses, columns: Sequence[str], *, frame: int = 0, timestamp: float = 0.0) -> bytes:
    """Poses of one image, or of one frame of a video and its time in s -> the lines of its rows."""
    table: list[list[object]] = []
    for i in range(len(poses)):
        points = zip(poses.skeleton.keypoint_names, poses.keypoints[i].tolist(), poses.scores[i].tolist(), strict=True)
        for k, (keypoint, (x, y), score) in enumerate(points):
            values: dict[str, object] = {
                "image": name,
                "frame": frame,
                "timestamp": _text(timestamp, 4),
                "person": i,
                "id": "" if poses.ids is None else int(poses.ids[i]),
                "keypoint": keypoint,
                "x": _text(x, 2),
                "y": _text(y, 2),
                "score": _text(score, 4),
                "interpolated": 0 if poses.interpolated is None else int(poses.interpolated[i, k]),
            }
            table.append([values[column] for column in columns])
    return to_lines(table)


@dataclass
class _Person:
    """x, y, score by name of the keypoint; the id, empty where persons were not tracked; what was interpolated."""

    track: str
    keypoints: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    interpolated: dict[str, bool] = field(default_factory=dict)


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
        known = [name for name in _ALL_COLUMNS if name in columns]
        if columns != known or not set(_COLUMNS) <= set(columns):
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
    flag = row.get("interpolated", "")
    if flag not in ("", "0", "1"):
        raise InputError(f"interpolated is {flag!r}, wanted 1 or 0.")
    if flag:
        person.interpolated[name] = flag == "1"


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
    poses = keypoints.to_poses(values, skeleton, image_size, ids)
    if not any(person.interpolated for person in ordered):
        return poses
    flags = [[person.interpolated.get(name, False) for name in skeleton.keypoint_names] for person in ordered]
    return replace(poses, interpolated=np.array(flags, bool))


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _number(text: str, what: str) -> float:
    return keypoints.number(text, what) if text else math.nan


def _whole(text: str, what: str) -> int:
    # Not int(text), which also takes "1_000".
    if not _WHOLE.fullmatch(text):
        raise InputError(f"{what} is {text!r}, wanted a whole number.")
    return int(text)
