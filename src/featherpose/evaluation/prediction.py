"""Poses in every image of a labeled data set: the loop that all protocols share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import images
from featherpose.boxes import check_boxes
from featherpose.errors import DataError, InputError, with_name
from featherpose.meaning import size_difference
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

Predict = Callable[[Iterable[NDArray[np.uint8]], Iterable[NDArray[np.float32]]], Iterator[Poses]]
"""Images RGB uint8 (H, W, 3), and boxes (N, 4) left, top, right, bottom in each -> Poses of the N persons in each, all
in the same order; it takes images as it needs them."""


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image of a data set and the boxes in which its persons are to be found."""

    name: str
    """File name in the folder of images."""
    boxes_xyxy: NDArray[np.float32]
    """(N, 4) in pixels."""
    size: Size | None = None
    """As annotated: a file of another size cannot be used. None: not annotated."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was found in the images of a data set."""

    poses: list[Poses | None]
    """One for each image, in order; None where the image could not be used."""
    broken: tuple[str, ...]
    """One line for each image that could not be used."""
    seconds: float
    """Reading the images and inference."""

    @property
    def num_images(self) -> int:
        """Images that could be used."""
        return len(self.poses) - len(self.broken)


def predict_images(
    folder: Path,
    labeled: Sequence[LabeledImage],
    predict: Predict,
    skeleton: Skeleton,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Folder of images, the images to use in it, a function from images and boxes to Poses -> Predictions.

    `progress` is called with the number of images done and the total. An image that cannot be read, or whose size
    differs from the annotated one, is listed as broken. DataError where no image can be used, and where the predictor
    does not return poses of `skeleton`, one per box.
    """
    start = time.perf_counter()
    poses: list[Poses | None] = [None] * len(labeled)
    broken: list[str] = []
    # The predictor reads a few images ahead; `tee` holds those whose poses are not there yet.
    usable, first, second = tee(_usable(folder, labeled, broken), 3)
    found = predict((image.pixels for image in first), (image.boxes_xyxy for image in second))
    for image_poses, image in zip(found, usable, strict=True):
        if progress:
            progress(image.index, len(labeled))
        _check(image_poses, len(image.boxes_xyxy), skeleton)
        poses[image.index] = image_poses
    if progress:
        progress(len(labeled), len(labeled))
    if broken and len(broken) == len(labeled):
        raise DataError(f"None of the {len(labeled)} images could be used; first error: {broken[0]}")
    return Predictions(poses, tuple(broken), time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class _Usable:
    """An image that has been read, its boxes (N, 4), and its index in the data set."""

    index: int
    pixels: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]


def _usable(folder: Path, labeled: Sequence[LabeledImage], broken: list[str]) -> Iterator[_Usable]:
    """Images of a data set -> those that can be used; for each of the others a line is added to `broken`."""
    for index, image in enumerate(labeled):
        try:
            pixels, boxes = _read(folder, image)
        except InputError as error:
            broken.append(with_name(image.name, error))
        else:
            yield _Usable(index, pixels, boxes)


def _read(folder: Path, image: LabeledImage) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    pixels = images.read(folder / image.name)
    size = Size(height=pixels.shape[0], width=pixels.shape[1])
    if image.size is not None and image.size != size:
        raise InputError(size_difference(image.name, size, image.size))
    return pixels, check_boxes(image.boxes_xyxy, size)


def _check(found: Poses, num_boxes: int, skeleton: Skeleton) -> None:
    model = found.skeleton
    if model.keypoint_names != skeleton.keypoint_names:
        raise DataError(
            f"The model predicts the {model.num_keypoints} keypoints of {model.name}, the data set labels the"
            f" {skeleton.num_keypoints} of {skeleton.name}; evaluate on data with the model's keypoints."
        )
    if len(found) != num_boxes:
        raise DataError(f"{len(found)} poses for {num_boxes} boxes; evaluation needs one pose per box.")
