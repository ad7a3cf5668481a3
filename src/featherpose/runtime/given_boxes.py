"""Boxes that are given for image files, in place of a detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import whole_image_box
from featherpose.errors import InputError
from featherpose.formats import person_boxes
from featherpose.formats.person_boxes import Boxes, PersonBoxes
from featherpose.records import Counts, Id, Tally
from featherpose.runtime.sources import AnyPath, ImageFile
from featherpose.size import Size

BoxLookup = Callable[[ImageFile, NDArray[np.uint8]], Boxes]
"""Image file and its pixels (H, W, 3) -> its boxes and their scores; InputError if there is no entry for it."""

AnyBoxes = AnyPath | dict[str, Any] | list[Any]
"""A JSON file with boxes, or its content (`formats.person_boxes`)."""


def whole_image(_: ImageFile, pixels: NDArray[np.uint8]) -> Boxes:
    """The lookup for images that show one person who fills them."""
    size = Size(height=pixels.shape[0], width=pixels.shape[1])
    return whole_image_box(size), np.ones(1, np.float32)


def read_boxes(boxes: AnyBoxes, category: Id | None = None) -> PersonBoxes:
    """JSON file with boxes, or its content -> the boxes. `category`: name or id of that of the people."""
    if isinstance(boxes, dict | list):
        return person_boxes.from_json(boxes, category=category)
    return person_boxes.read(Path(boxes), "Check the path after --boxes.", category)


def match_boxes(known: PersonBoxes, image_files: Sequence[ImageFile]) -> tuple[BoxLookup, Callable[[], Counts]]:
    """Boxes and the image files -> the boxes of each image, and after the run how many were used.

    InputError where none is.
    """
    outside = Tally("")
    indices = {image_file.path: _find(known, image_file) for image_file in image_files}
    used = {index for index in indices.values() if index is not None}
    if not image_files:  # there is a message about that already
        used = set(range(len(known.images)))
    counts = known.matched(used, "the images", [image_file.name for image_file in image_files])

    def lookup(image_file: ImageFile, pixels: NDArray[np.uint8]) -> Boxes:
        index = indices[image_file.path]
        # A name that two folders share is no name of one of them.
        if index is None and not (known.complete and image_file.unique_filename):
            raise InputError(
                f'{image_file.path}: no entry in {known.name}. Add "{image_file.name}": [] if it contains no person.'
            )
        return known.inside(index, Size(height=pixels.shape[0], width=pixels.shape[1]), outside)

    return lookup, lambda: counts.less(outside)


def _find(known: PersonBoxes, image_file: ImageFile) -> int | None:
    names = (image_file.name, image_file.path.as_posix())
    found = (known.find(name, whole_name=not image_file.unique_filename) for name in names)
    return next((index for index in found if index is not None), None)
