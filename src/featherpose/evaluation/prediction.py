"""Poses in every image of a labeled data set: the loop that all protocols share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose import images
from featherpose.boxes import check_boxes
from featherpose.errors import DataError, InputError, with_name
from featherpose.meaning import size_difference
from featherpose.poses import Poses
from featherpose.records import count_notes
from featherpose.size import Size
from featherpose.skeleton import Skeleton

Detect = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Image RGB uint8 (H, W, 3) -> boxes (M, 4) left, top, right, bottom in its pixels, and scores (M,)."""


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image of a data set and the boxes in which its persons are to be found."""

    name: str
    """File name in the folder of images."""
    boxes_xyxy: NDArray[np.float32] | None
    """(N, 4) in pixels; None: those that a detector finds, or a one-stage model finds the people by itself."""
    box_scores: NDArray[np.float32] | None = None
    """(N,) of the boxes that are given; None: 1 each."""
    size: Size | None = None
    """As annotated: a file of another size cannot be used. None: not annotated."""


@dataclass(frozen=True, eq=False)
class ImageWithBoxes:
    """An image RGB uint8 (H, W, 3) that has been read, its index in the data set, its boxes (N, 4) left, top, right,
    bottom, and their scores (N,)."""

    index: int
    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


class Predict(Protocol):
    """Images with boxes -> each with the Poses of the N persons in its boxes, whose box scores are those given, in the
    same order. It takes images as it needs them, and holds only those whose poses are not there yet."""

    def __call__(self, requests: Iterable[ImageWithBoxes], /) -> Iterator[tuple[ImageWithBoxes, Poses]]: ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was found in the images of a data set."""

    poses: list[Poses | None]
    """One for each image, in order; None where the image could not be used."""
    broken: tuple[str, ...]
    """One line for each image that could not be used."""
    seconds: float
    """Reading the images and inference."""
    notes: tuple[str, ...] = ()
    """What was done to images that were not taken as they are, with their number."""

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
    detect: Detect | None = None,
) -> Predictions:
    """Folder of images, the images to use in it, a function from images and boxes to Poses -> Predictions.

    `detect` finds the boxes in images where none are given; without it, `predict` finds the people there. `progress` is
    called with the number of images done and the total. An image that cannot be read, or whose size differs from the
    annotated one, is listed as broken. Of a model with more keypoints than `skeleton`, those of its names are taken.
    DataError where no image can be used, where the predictor lacks keypoints of `skeleton`, or does not return one pose
    per box.
    """
    start = time.perf_counter()
    poses: list[Poses | None] = [None] * len(labeled)
    broken: list[str] = []
    notes: dict[str, str] = {}
    for image, image_poses in predict(_usable(folder, labeled, detect, broken, notes)):
        if progress:
            progress(image.index, len(labeled))
        if labeled[image.index].boxes_xyxy is not None or detect is not None:
            _check_number(image_poses, len(image.boxes))
        poses[image.index] = _with_keypoints(image_poses, skeleton)
    if progress:
        progress(len(labeled), len(labeled))
    if broken and len(broken) == len(labeled):
        raise DataError(f"None of the {len(labeled)} images could be used; first error: {broken[0]}")
    return Predictions(poses, tuple(broken), time.perf_counter() - start, tuple(count_notes(notes)))


def _usable(
    folder: Path, labeled: Sequence[LabeledImage], detect: Detect | None, broken: list[str], notes: dict[str, str]
) -> Iterator[ImageWithBoxes]:
    """Images of a data set -> those that can be used; for each of the others a line is added to `broken`.

    `notes`: by the name of the image, what was not taken as it is.
    """
    for index, image in enumerate(labeled):
        try:
            said: list[str] = []
            pixels = images.read(folder / image.name, notes=said)
            if said:
                notes[image.name] = "; ".join(said)
            boxes, scores = _boxes(image, pixels, detect)
        except InputError as error:
            broken.append(with_name(image.name, error))
        else:
            yield ImageWithBoxes(index, pixels, boxes, scores)


def _boxes(
    image: LabeledImage, pixels: NDArray[np.uint8], detect: Detect | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image and its pixels -> boxes (N, 4), given or detected, and scores (N,)."""
    size = Size(height=pixels.shape[0], width=pixels.shape[1])
    if image.size is not None and image.size != size:
        raise InputError(size_difference(image.name, size, image.size))
    if image.boxes_xyxy is None:
        return (np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) if detect is None else detect(pixels)
    boxes = check_boxes(image.boxes_xyxy, size)
    return boxes, np.ones(len(boxes), np.float32) if image.box_scores is None else image.box_scores


def _with_keypoints(found: Poses, skeleton: Skeleton) -> Poses:
    """Poses -> the same with the keypoints of the skeleton alone, by name; DataError where the model lacks some."""
    model = found.skeleton
    if model.keypoint_names == skeleton.keypoint_names:
        return found
    if model.landmarks != skeleton.landmarks or not set(skeleton.keypoint_names) <= set(model.keypoint_names):
        raise DataError(
            f"The model predicts the {model.num_keypoints} keypoints of {model.name}, the data set labels the"
            f" {skeleton.num_keypoints} of {skeleton.name}; evaluate on data with the model's keypoints."
        )
    columns = [model.keypoint_names.index(name) for name in skeleton.keypoint_names]
    return replace(
        found,
        keypoints=found.keypoints[:, columns],
        scores=found.scores[:, columns],
        interpolated=None,
        skeleton=skeleton,
    )


def _check_number(found: Poses, num_boxes: int) -> None:
    if len(found) != num_boxes:
        raise DataError(f"{len(found)} poses for {num_boxes} boxes; evaluation needs one pose per box.")
