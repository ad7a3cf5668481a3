"""Boxes that are given for image files, in place of a detector's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import whole_image_box
from featherpose.errors import InputError
from featherpose.formats import person_boxes
from featherpose.formats.person_boxes import Boxes, PersonBoxes
from featherpose.runtime.sources import AnyPath, ImageFile
from featherpose.size import Size

BoxLookup = Callable[[ImageFile, NDArray[np.uint8]], Boxes]
"""Image file and its pixels (H, W, 3) -> its boxes and their scores; InputError if there is no entry for it."""


def box_lookup(boxes: AnyPath | dict[str, Any] | list[Any] | None, whole_image: bool) -> BoxLookup | None:
    """The options `boxes` and `whole_image`, not both -> the boxes of each image; None: neither is given."""
    if whole_image:
        return lambda _, pixels: _whole_image(pixels)
    if boxes is None:
        return None
    if isinstance(boxes, dict | list):
        boxes_name = "the boxes"
        known_boxes = person_boxes.from_json(boxes)
    else:
        boxes_name = str(boxes)
        known_boxes = person_boxes.read(Path(boxes), "Check the path after --boxes.")
    return lambda image_file, _: _boxes_of(image_file, known_boxes, boxes_name)


def _whole_image(pixels: NDArray[np.uint8]) -> Boxes:
    size = Size(height=pixels.shape[0], width=pixels.shape[1])
    return whole_image_box(size), np.ones(1, np.float32)


def _boxes_of(image_file: ImageFile, known_boxes: PersonBoxes, boxes_name: str) -> Boxes:
    for name in (image_file.name, image_file.path.as_posix()):
        found = known_boxes.of(name, whole_name=not image_file.unique_filename)
        if found is not None:
            return found
    raise InputError(
        f'{image_file.path}: no entry in {boxes_name}. Add "{image_file.name}": [] if it contains no person.'
    )
