"""Resume: which images of a run are done already. A record beside poses.json says what its entries were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import native
from featherpose.poses import Poses

Stamp = tuple[str, int, int]
"""Absolute path, size in bytes and time of the last change in ns: an image with the same stamp is the same image."""


@dataclass(frozen=True)
class Earlier:
    """The results of an earlier run with the same settings, by the name of the image."""

    poses: dict[str, Poses] = field(default_factory=dict[str, Poses])
    entries: dict[str, str] = field(default_factory=dict[str, str])
    """The entries in poses.json as JSON text: the poses are rounded, so that others would be written for them."""
    stamps: dict[str, Stamp] = field(default_factory=dict[str, Stamp])


def stamp_of(path: Path) -> Stamp | None:
    """Image file -> its stamp; None: it cannot be found."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return str(files.resolved(path)), facts.st_size, facts.st_mtime_ns


def settings_of(model: Path, detector: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Files of the models and everything else that results depend on -> what must be the same to resume."""
    return {
        "featherpose": version("featherpose"),
        "model": _digest(model.read_bytes()),
        "detector": None if detector is None else _digest(detector.read_bytes()),
        **options,
    }


def read(json_file: Path, settings: Mapping[str, Any]) -> Earlier:
    """poses.json and the settings of this run -> the results in it; none if it was made with other settings, or is not
    the file that its record was written for."""
    if files.is_stream(json_file):
        return Earlier()  # reading a pipe would wait for ever
    try:
        record = files.read_json(_record_file(json_file))
        content = json_file.read_bytes()
        if record["settings"] != settings or record["results"] != _digest(content):
            return Earlier()
        document = json.loads(content)
        stamps = {name: (path, size, mtime_ns) for name, (path, size, mtime_ns) in record["images"].items()}
        entries = {entry["image"]: json.dumps(entry, ensure_ascii=False) for entry in document["images"]}
        return Earlier(native.from_document(document), entries, stamps)
    except (OSError, InputError, ValueError, TypeError, AttributeError, KeyError):
        return Earlier()  # no record, or none that this version understands: all images are done again


def write(json_file: Path, content: bytes, settings: Mapping[str, Any], stamps: Mapping[str, Stamp]) -> None:
    """Write poses.json with this content, then its record; after an interrupt between the two nothing is resumed.

    A stream (`files.is_stream`), which no later run can read, has no record.
    """
    files.replace(json_file, content)
    if files.is_stream(json_file):
        return
    record = {"settings": settings, "results": _digest(content), "images": stamps}
    files.replace(_record_file(json_file), json.dumps(record).encode())


def _record_file(json_file: Path) -> Path:
    return json_file.with_name(f".{json_file.stem}.run.json")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
