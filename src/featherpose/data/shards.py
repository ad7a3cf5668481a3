"""Samples in WebDataset shards: `KEY.webp` and `KEY.json` in `*.tar` files, indexed once and then read by offset.

`formats.shard_records` reads the JSON, and `pack` writes shards. A sample with a broken record is reported and left
out, never replaced by its neighbor; a shard that cannot be read to its end is an error, because it is unknown what is
missing.
"""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from featherpose.data.sample import Location, Sample
from featherpose.errors import DataError, InputError
from featherpose.formats.shard_records import read_sample

IMAGE_SUFFIXES = ("webp", "jpg", "jpeg", "png", "avif")
Record = TypeVar("Record")
_BLOCK = 512  # size in bytes of the blocks of a tar file


@dataclass(frozen=True)
class Index:
    """Contents of a folder of shards: the samples in the order of their keys, and a message for each broken one."""

    samples: list[Sample]
    broken: list[str]


def read_index(folder: Path | str) -> list[Sample]:
    """Folder of `*.tar` shards -> its samples in the order of their keys; a warning counts the broken ones."""
    index = scan(folder)
    if index.broken:
        warnings.warn(f"{folder}: {len(index.broken)} broken samples left out, first: {index.broken[0]}", stacklevel=2)
    return index.samples


def scan(folder: Path | str) -> Index:
    """Folder of `*.tar` shards -> Index of its samples (images not decoded) and of its broken samples."""
    return Index(*read_records(find_shards(Path(folder)), _sample))


def read_records(shards: Iterable[Path], parse: Callable[[Member], Record]) -> tuple[list[Record], list[str]]:
    """Shards and what to make of the entries of one key -> the results by key, and a message for each broken one."""
    records: dict[str, Record] = {}
    found_in: dict[str, str] = {}
    broken: list[str] = []
    for member in (member for shard in shards for member in _members(shard)):
        try:
            if member.key in records:
                raise InputError("duplicate key, already found in " + found_in[member.key])
            records[member.key] = parse(member)
            found_in[member.key] = member.shard.name
        except InputError as error:
            broken.append(f"{member.shard.name}: {member.key}: {error}")
    return [records[key] for key in sorted(records)], broken


def read_bytes(location: Location) -> bytes:
    """Location -> bytes of the encoded image there; DataError when the file is missing or too short."""
    try:
        with location.path.open("rb") as file:
            file.seek(location.offset)
            data = file.read(location.nbytes)
    except OSError as error:
        raise DataError(
            f"cannot read {location.path}: {error.strerror}; was the shard moved? Index the folder again."
        ) from error
    if len(data) < location.nbytes:
        raise DataError(f"{location.path} ends before byte {location.offset + location.nbytes}; copy the shard again.")
    return data


class Member(NamedTuple):
    """Entries of one shard with the same key."""

    shard: Path
    key: str
    record: bytes | None
    encoded_image: Location | None

    def parts(self) -> tuple[bytes, Location]:
        """The record as JSON, and the location of the image; InputError where one of them is missing."""
        if self.record is None or self.encoded_image is None:
            raise InputError(f"there is no {'record (.json)' if self.record is None else 'image (.webp)'} for this key")
        return self.record, self.encoded_image


def has_shards(folder: Path) -> bool:
    """Whether there are shards in a folder, or in one directly below it."""
    return bool(_tar_files(folder))


def _tar_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])


def find_shards(folder: Path) -> list[Path]:
    """Folder -> paths of the shards in it and in the folders directly below; DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; wanted a folder with shards (*.tar).")
    shards = _tar_files(folder)
    if not shards:
        found = sorted(path.name for path in folder.iterdir())[:5]
        hint = " For a COCO file, give the path of the file itself." if any(folder.glob("*.json")) else ""
        raise DataError(f"no shards (*.tar) in {folder}; it contains {', '.join(found) or 'nothing'}.{hint}")
    return shards


def _members(shard: Path) -> Iterator[Member]:
    """Path of a shard -> its keys in the order of the file, each with its record and the location of its image."""
    encoded_images: dict[str, Location] = {}
    records: dict[str, bytes] = {}
    for info, data in _files(shard):
        key, _, extension = info.name.rpartition(".")
        if extension == "json":
            records[key] = data
        elif extension in IMAGE_SUFFIXES:
            encoded_images[key] = Location(shard, info.offset_data, info.size)
    for key in encoded_images | records:
        yield Member(shard, key, records.get(key), encoded_images.get(key))


def _files(shard: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Path of a shard -> (entry, content) of every file in it; the content of images is left empty."""
    name, end = "the first member", 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                name, end = info.name, info.offset_data + -(-info.size // _BLOCK) * _BLOCK
                content = archive.extractfile(info) if info.name.endswith(".json") else None
                yield info, content.read() if content else b""
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read shard {shard} after {name}: {error}; copy it again.") from error
    _check_end(shard, name, end)


def _check_end(shard: Path, name: str, end: int) -> None:
    """In a complete tar file a block of zeros follows the last member; without one, tarfile stops silently."""
    with shard.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise DataError(f"cannot read shard {shard} after {name}: it is truncated or damaged there; copy it again.")


def _sample(member: Member) -> Sample:
    content, encoded_image = member.parts()
    record = read_sample(content)
    person = record.person
    assert person.keypoints is not None  # read_sample
    assert person.box_xywh is not None
    return Sample(
        key=member.key,
        image=record.image.name,
        source=record.image.source,
        keypoints=person.keypoints[:, :2],
        visibility=person.keypoints[:, 2].astype(np.uint8),
        skeleton=record.skeleton,
        box_xywh=person.box_xywh,
        area=person.area,
        size=record.image.size,
        scale=record.image.scale,
        location=encoded_image,
    )
