"""Boxes that are given for image files, in place of a detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import images
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


class GivenBoxes:
    """The boxes of image files: called with one and its pixels."""

    def __init__(self, known: PersonBoxes, image_files: Sequence[ImageFile], *, strict: bool = False) -> None:
        """InputError where no box is of one of the images; `strict`: also where the boxes look wrong."""
        self._known = known
        self._outside = Tally(known.counts.what)
        self._indices = {image_file.path: _find(known, image_file) for image_file in image_files}
        used = {index for index in self._indices.values() if index is not None}
        if not image_files:  # there is a message about that already
            used = set(range(len(known.images)))
        self._counts = known.matched(used, "the images", [image_file.name for image_file in image_files])
        sizes = {index: _size(path) for path, index in self._indices.items() if index is not None}
        self.warnings = known.warnings(sizes, strict=strict)
        known.require_inside(sizes)

    @property
    def counts(self) -> Counts:
        """How many boxes are used, complete after the last image."""
        return self._counts.less(self._outside)

    def __call__(self, image_file: ImageFile, pixels: NDArray[np.uint8]) -> Boxes:
        """Image file and its pixels (H, W, 3) -> its boxes and their scores; InputError if it has no entry."""
        index = self._indices[image_file.path]
        # A name that two folders share is no name of one of them.
        if index is None and not (self._known.complete and image_file.unique_filename):
            raise InputError(
                f'{image_file.path}: no entry in {self._known.name}. Add "{image_file.name}": [] if it contains no'
                " person."
            )
        return self._known.inside(index, Size(height=pixels.shape[0], width=pixels.shape[1]), self._outside)


def _size(path: Path) -> Size | None:
    """Path of an image -> its size; None where it cannot be read, which is reported when it is its turn."""
    try:
        return images.read_size(path)
    except InputError:
        return None


def _find(known: PersonBoxes, image_file: ImageFile) -> int | None:
    names = (image_file.name, image_file.path.as_posix())
    found = (known.find(name, whole_name=not image_file.unique_filename) for name in names)
    return next((index for index in found if index is not None), None)
