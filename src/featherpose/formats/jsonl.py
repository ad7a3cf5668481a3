"""poses.jsonl, JSON Lines: the content of poses.json with one image a line, so that it can be appended while images are
processed, and read after an interrupt.

The first line is the header of poses.json ("format", "version", "model", "skeleton"); each other line is one entry of
its "images".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import file_names, native
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

FILE = "poses.jsonl"


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/poses.jsonl, all at once; returns what was written."""
    file_name = file_names.of_shard(FILE, shard)
    lines = [native.header(skeleton, model)]
    lines += [native.to_entry(name, found, skeleton) for name, found in poses.items()]
    files.make_folder(folder)
    files.replace(folder / file_name, native.encode("".join(f"{native.to_line(line)}\n" for line in lines)))
    return file_name


def read(
    folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size] | None = None, *, shard: str = ""
) -> dict[str, Poses]:
    """FOLDER/poses.jsonl -> Poses by image name. The file has the image sizes, so `image_sizes` is not needed.

    A last line that an interrupt cut off is left out. Of an image that occurs twice, the last line counts.
    """
    path = folder / file_names.of_shard(FILE, shard)
    return _read(path, _complete(_bytes(path)), skeleton)


def read_file(path: Path) -> dict[str, Poses]:
    """poses.jsonl under any name -> Poses by image name, with the skeleton that its first line describes."""
    data = _complete(_bytes(path))
    try:
        skeleton = native.from_header(_parse(data.partition(b"\n")[0]))
    except (InputError, KeyError) as error:
        raise InputError(f"{path}, line 1: {error}") from None
    return _read(path, data, skeleton)


def start(path: Path, skeleton: Skeleton, model: str = "") -> dict[str, Poses]:
    """Prepare a file for `append` -> Poses of the images that it contains already, by name.

    A missing file is created, with its header. From an existing one a last line that an interrupt cut off is removed.
    InputError when it was written with another model or skeleton.
    """
    header = native.header(skeleton, model)
    before = _bytes(path) if path.exists() else b""
    data = _complete(before)
    if not data:  # no file, or interrupted within the header
        files.make_folder(path.parent)
        files.replace(path, native.encode(native.to_line(header) + "\n"))
        return {}
    poses = _read(path, data, skeleton)
    seen = json.loads(data.splitlines()[0])
    if seen.get("model") != model:
        raise InputError(f"{path}: of the model {seen.get('model')!r}, wanted {model!r}. Choose another folder.")
    if data != before:
        files.replace(path, data)
    return poses


def append(path: Path, name: str, poses: Poses) -> None:
    """Append the poses of one image to a file that `start` has prepared."""
    line = native.to_line(native.to_entry(name, poses, poses.skeleton))
    try:
        # One call, so that an interrupt cuts at most this line.
        with path.open("ab", buffering=0) as file:
            file.write(native.encode(line + "\n"))
    except OSError as error:
        raise files.write_error(path, error) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Wanted a poses.jsonl.") from None


def _complete(data: bytes) -> bytes:
    """File content -> the same without the line that an interrupt cut off, each line ended by a line feed.

    A last line without a line feed is complete if it is JSON: an editor may have removed the line feed.
    """
    head, _, last = data.rpartition(b"\n")
    if not last:
        return data
    try:
        json.loads(last)
    except ValueError:
        return head + b"\n" if head else b""
    return data + b"\n"


def _read(path: Path, data: bytes, skeleton: Skeleton) -> dict[str, Poses]:
    lines = data.split(b"\n")[:-1]
    if not lines:
        raise InputError(f"{path}: no complete line, wanted the header of a poses.jsonl in the first line.")
    poses: dict[str, Poses] = {}
    for number, line in enumerate(lines, 1):
        try:
            value = _parse(line)
            if number == 1:
                _check_skeleton(value, skeleton)
            else:
                name, found = native.from_entry(value, skeleton)
                poses[name] = found
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    return poses


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error}). Wanted the entry of one image.") from None


def _check_skeleton(header: Any, skeleton: Skeleton) -> None:
    try:
        written = native.from_header(header)
    except KeyError as error:
        raise InputError(f"the header lacks the key {error}.") from None
    if written != skeleton:
        raise InputError(f"the skeleton is {written.name}, wanted {skeleton.name} with the same keypoints and limbs.")
