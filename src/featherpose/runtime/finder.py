"""The boxes of image files, and the poses in them: found by a detector, given, or both from a one-stage model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose.poses import Poses
from featherpose.runtime.detector import Detections, Detector
from featherpose.runtime.estimator import R
from featherpose.runtime.given_boxes import BoxLookup
from featherpose.runtime.models import Models
from featherpose.runtime.one_stage import OneStage
from featherpose.runtime.pipeline import without_duplicates
from featherpose.runtime.sources import ImageFile
from featherpose.runtime.stopwatch import Stopwatch

_NOBODY = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


class Estimate(Protocol):
    """Images with their boxes -> each with its poses, in order."""

    def __call__(self, requests: Iterable[R], /) -> Iterator[tuple[R, Poses]]: ...


@dataclass(frozen=True)
class Finder:
    """The boxes of an image file and its pixels, and the poses of images with these boxes."""

    boxes_of: BoxLookup
    estimate: Estimate


def make_finder(models: Models, boxes_of: BoxLookup | None, watch: Stopwatch) -> Finder:
    """Opened models, and boxes that are given (None: they are found) -> Finder.

    The time of the detector is counted by `watch`.
    """
    poses = models.poses
    if isinstance(poses, OneStage):
        return Finder(_no_boxes, poses.estimate_requests)
    if models.detector is None:
        assert boxes_of is not None  # open_models
        # Boxes that are given are kept, all of them and in their order.
        return Finder(boxes_of, poses.estimate_requests)

    def estimate(requests: Iterable[R], /) -> Iterator[tuple[R, Poses]]:
        return ((request, without_duplicates(found)) for request, found in poses.estimate_requests(requests))

    return Finder(_timed(models.detector, watch), estimate)


def _no_boxes(_: ImageFile, pixels: NDArray[np.uint8]) -> Detections:
    return _NOBODY


def _timed(detector: Detector, watch: Stopwatch) -> BoxLookup:
    """Detector -> the boxes of each image; its time is counted."""

    def detect(_: ImageFile, pixels: NDArray[np.uint8]) -> Detections:
        with watch.stage("detection"):
            return detector(pixels)

    return detect
