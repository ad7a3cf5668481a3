"""What finds the people in image files and their keypoints: a detector and an estimator, an estimator in boxes that are
given, or a one-stage model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose import weights
from featherpose.errors import InputError
from featherpose.kinds import POSES
from featherpose.manifest import PoseManifest, PosesManifest, read_manifest
from featherpose.poses import Poses
from featherpose.runtime.detector import Detections, Detector
from featherpose.runtime.estimator import Estimator, R
from featherpose.runtime.given_boxes import BoxLookup
from featherpose.runtime.one_stage import OneStage
from featherpose.runtime.pipeline import DEFAULT_DETECTOR, without_duplicates
from featherpose.runtime.session import Session
from featherpose.runtime.sources import AnyPath, ImageFile
from featherpose.runtime.stopwatch import Stopwatch

_NOBODY = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


class Estimate(Protocol):
    """Images with their boxes -> each with its poses, in order."""

    def __call__(self, requests: Iterable[R], /) -> Iterator[tuple[R, Poses]]: ...


@dataclass(frozen=True)
class Finder:
    """Opened models: the boxes of an image file and its pixels, and the poses of images with these boxes."""

    session: Session
    manifest: PoseManifest | PosesManifest
    boxes_of: BoxLookup
    estimate: Estimate
    detector: Path | None = None
    """File of the person detector; None: there is none."""
    conf: float | None = None
    """Lowest score of a person that is found; None: all boxes are given."""


def open_finder(
    model: AnyPath,
    detector: AnyPath | None,
    boxes_of: BoxLookup | None,
    watch: Stopwatch,
    device: str = "auto",
    *,
    conf: float | None = None,
    max_people: int | None = None,
    flip_test: bool = False,
    refine: bool = False,
) -> Finder:
    """Names or paths of the models, and boxes that are given (None: they are found) -> Finder.

    The time of the detector is counted by `watch`. InputError for what a one-stage model has no use for.
    """
    path = weights.find(model)
    if is_one_stage(path):
        refuse_for_one_stage(
            path,
            {
                "boxes or whole_image": boxes_of is not None,
                "detector": detector not in (None, DEFAULT_DETECTOR),
                "flip_test": flip_test,
                "refine": refine,
            },
        )
        one_stage = OneStage.open(path, device, conf=conf, max_people=max_people)
        session = one_stage.session
        return Finder(session, one_stage.manifest, _no_boxes, one_stage.estimate_requests, conf=one_stage.conf)
    estimator = Estimator.open(path, device, flip_test=flip_test, refine=refine)
    if boxes_of is not None:
        # Boxes that are given are kept, all of them and in their order.
        return Finder(estimator.session, estimator.manifest, boxes_of, estimator.estimate_requests)
    assert detector is not None  # check_finder
    detector_file = weights.find_detector(detector)
    people = Detector.open(detector_file, device, conf=conf, max_people=max_people)

    def estimate(requests: Iterable[R], /) -> Iterator[tuple[R, Poses]]:
        return ((request, without_duplicates(poses)) for request, poses in estimator.estimate_requests(requests))

    return Finder(estimator.session, estimator.manifest, _timed(people, watch), estimate, detector_file, people.conf)


def is_one_stage(model: Path) -> bool:
    """Path of an .onnx file -> whether it finds people by itself."""
    return _kind(model, model.stat().st_mtime_ns) == POSES.name


@lru_cache(maxsize=16)
def _kind(model: Path, modified_ns: int) -> str:
    """Read once for each version of a file: `estimate` asks for every image."""
    return read_manifest(model).kind


def refuse_for_one_stage(model: Path, options: dict[str, bool]) -> None:
    """InputError for the first option that is given."""
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise InputError(f"{model}: finds people and poses in one stage, without {given[0]}; leave it out.")


def _no_boxes(_: ImageFile, pixels: NDArray[np.uint8]) -> Detections:
    return _NOBODY


def _timed(detector: Detector, watch: Stopwatch) -> BoxLookup:
    """Detector -> the boxes of each image; its time is counted."""

    def detect(_: ImageFile, pixels: NDArray[np.uint8]) -> Detections:
        with watch.stage("detection"):
            return detector(pixels)

    return detect
