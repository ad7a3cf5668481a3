"""featherpose's own JSON format: one document for many images, keypoints by name, skeleton included.

{"format": "featherpose poses", "version": 2, "skeleton": {...}, "images": [{"image": "a.jpg",
"image_size": {"height", "width"}, "instances": [{"score", "box_xyxy", "box_score",
"keypoints": {"nose": [x, y, score], ...}}, ...]}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

FORMAT = "featherpose poses"
VERSION = 2


def to_document(poses: Mapping[str, Poses], skeleton: Skeleton, model: str = "") -> dict[str, Any]:
    """Poses by image name and their common skeleton -> one document. An image without persons has an empty list."""
    mismatched = [name for name, found in poses.items() if found.skeleton != skeleton]
    if mismatched:
        raise InputError(
            f"{mismatched[0]}: its skeleton is {poses[mismatched[0]].skeleton.name}, wanted {skeleton.name}."
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "skeleton": skeleton.to_dict(),
        "images": [{"image": name, **found.to_dict()} for name, found in poses.items()],
    }


def to_text(document: dict[str, Any]) -> str:
    """Document -> JSON text with one line per image."""
    header = {key: value for key, value in document.items() if key != "images"}
    images = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in document["images"])
    return json.dumps(header, ensure_ascii=False)[:-1] + f', "images": [\n{images}\n]}}\n'


def from_document(document: Any) -> dict[str, Poses]:
    """Document from `to_document` -> Poses by image name."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f'Not poses in featherpose\'s format: wanted an object with "format": "{FORMAT}".')
    if document.get("version") != VERSION:
        raise InputError(f"Poses of version {document.get('version')!r}, wanted {VERSION}. Predict again.")
    try:
        skeleton = Skeleton.from_dict(document["skeleton"])
        return {entry["image"]: Poses.from_dict(entry, skeleton) for entry in document["images"]}
    except KeyError as error:
        raise InputError(f"The poses lack the key {error}.") from None
