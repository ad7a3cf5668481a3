"""featherpose's own JSON format, poses.json: one document for many images, keypoints by name, skeleton included.

{"format": "featherpose poses", "version": 2, "skeleton": {...}, "images": [{"image": "a.jpg",
"image_size": {"height", "width"}, "instances": [{"score", "box_xyxy", "box_score",
"keypoints": {"nose": [x, y, score], ...}}, ...]}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import InputError, with_name
from featherpose.formats import file_names
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

FORMAT = "featherpose poses"
VERSION = 2
FILE = "poses.json"


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/poses.json; returns what was written."""
    name = file_names.of_shard(FILE, shard)
    files.make_folder(folder)
    files.replace(folder / name, encode(to_text(to_document(poses, skeleton, model))))
    return name


def read(
    folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size] | None = None, *, shard: str = ""
) -> dict[str, Poses]:
    """FOLDER/poses.json -> Poses by image name. The file has the image sizes, so `image_sizes` is not needed."""
    path = folder / file_names.of_shard(FILE, shard)
    poses = read_file(path)
    for name, found in poses.items():
        if found.skeleton != skeleton:
            raise InputError(
                f"{path}: {name}: its skeleton is {found.skeleton.name}, wanted {skeleton.name} with the same"
                " keypoints and limbs."
            )
    return poses


def read_file(path: Path) -> dict[str, Poses]:
    """poses.json under any name -> Poses by image name, with the skeleton that the file describes."""
    document = files.read_json(path, 'Wanted a poses.json of "featherpose predict".')
    try:
        return from_document(document)
    except InputError as error:
        raise InputError(with_name(path, error)) from None


def to_document(poses: Mapping[str, Poses], skeleton: Skeleton, model: str = "") -> dict[str, Any]:
    """Poses by image name and their common skeleton -> one document. An image without persons has an empty list."""
    images = [to_entry(name, found, skeleton) for name, found in poses.items()]
    return {**header(skeleton, model), "images": images}


def header(skeleton: Skeleton, model: str = "") -> dict[str, Any]:
    """The document without its images."""
    return {"format": FORMAT, "version": VERSION, "model": model, "skeleton": skeleton.to_dict()}


def to_entry(name: str, poses: Poses, skeleton: Skeleton) -> dict[str, Any]:
    """Name and poses of one image -> its entry in the document."""
    if poses.skeleton != skeleton:
        raise InputError(f"{name}: its skeleton is {poses.skeleton.name}, wanted {skeleton.name}.")
    return {"image": name, **poses.to_dict()}


def to_text(document: dict[str, Any]) -> str:
    """Document -> JSON text with one line per image."""
    top = {key: value for key, value in document.items() if key != "images"}
    images = ",\n".join(to_line(entry) for entry in document["images"])
    return to_line(top)[:-1] + f', "images": [\n{images}\n]}}\n'


def to_line(value: dict[str, Any]) -> str:
    """JSON object -> its text without a line break, in UTF-8 readable to people."""
    return json.dumps(value, ensure_ascii=False)


def encode(text: str) -> bytes:
    """JSON text -> UTF-8. File names that are not UTF-8 contain lone surrogates, which become JSON escapes."""
    return text.encode("utf-8", "backslashreplace")


def from_document(document: Any) -> dict[str, Poses]:
    """Document from `to_document` -> Poses by image name."""
    try:
        skeleton = from_header(document)
        return dict(from_entry(entry, skeleton) for entry in document["images"])
    except KeyError as error:
        raise InputError(f"The poses lack the key {error}.") from None


def from_header(document: Any) -> Skeleton:
    """Document, with or without its images -> its skeleton; InputError for another format or version."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f'Not poses in featherpose\'s format: wanted an object with "format": "{FORMAT}".')
    if document.get("version") != VERSION:
        raise InputError(f"Poses of version {document.get('version')!r}, wanted {VERSION}. Predict again.")
    return Skeleton.from_dict(document["skeleton"])


def from_entry(entry: Any, skeleton: Skeleton) -> tuple[str, Poses]:
    """Entry of one image -> its name and poses; InputError names the image."""
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise InputError("An entry of an image lacks its name in the key 'image'.")
    try:
        return entry["image"], Poses.from_dict(entry, skeleton)
    except InputError as error:
        raise InputError(f"{entry['image']}: {error}") from None
