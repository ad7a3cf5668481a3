"""The models that find people and their poses, opened by name, and which options contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from featherpose import images, weights
from featherpose.errors import InputError
from featherpose.kinds import POSES
from featherpose.manifest import PoseManifest, PosesManifest, read_manifest
from featherpose.runtime.detector import Detector
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.one_stage import OneStage
from featherpose.runtime.pipeline import TopDown
from featherpose.runtime.session import Session
from featherpose.runtime.sources import AnyPath

DEFAULT_DETECTOR = "default"

OpenSession = Callable[[Path, str], Session]
"""Path of an .onnx file and a device -> its session."""


@dataclass(frozen=True)
class Models:
    """A detector and an estimator, an estimator in boxes that are given, or a one-stage model."""

    poses: Estimator | OneStage
    detector: Detector | None = None
    """None: the boxes are given, or the model finds the people by itself."""

    @property
    def session(self) -> Session:
        """That of the poses."""
        return self.poses.session

    @property
    def manifest(self) -> PoseManifest | PosesManifest:
        """That of the poses."""
        return self.poses.manifest

    @property
    def detector_file(self) -> Path | None:
        """None: there is no detector."""
        return None if self.detector is None else self.detector.session.path

    @property
    def conf(self) -> float | None:
        """Lowest score of a person that is found; None: the boxes are given."""
        if isinstance(self.poses, OneStage):
            return self.poses.conf
        return None if self.detector is None else self.detector.conf

    @property
    def options(self) -> dict[str, Any]:
        """The options that the results depend on, beside the files."""
        finder = self.poses if isinstance(self.poses, OneStage) else self.detector
        of_crops = {"flip_test": False, "refine": False}
        if isinstance(self.poses, Estimator):
            of_crops = {"flip_test": self.poses.flip_test, "refine": self.poses.refine}
        return {"conf": self.conf, "max_people": None if finder is None else finder.max_people, **of_crops}

    @property
    def estimator(self) -> Estimator:
        """Image and boxes -> Poses; of models that do not find the people by themselves."""
        assert isinstance(self.poses, Estimator)
        return self.poses

    @property
    def finder(self) -> TopDown | OneStage | None:
        """Image -> Poses of all people; None: the boxes are given."""
        if isinstance(self.poses, OneStage):
            return self.poses
        return None if self.detector is None else TopDown(self.detector, self.poses)


def open_models(
    model: AnyPath,
    detector: AnyPath | None,
    device: str = "auto",
    *,
    boxes: object = None,
    whole_image: bool = False,
    conf: float | None = None,
    max_people: int | None = None,
    flip_test: bool = False,
    refine: bool = False,
    open_session: OpenSession = Session.open,
) -> Models:
    """Names or paths of the models, and whether something else says where the people are -> Models.

    `boxes` is None where none are given. Sets OpenCV to one thread in this process: the engine uses the cores.
    InputError for options that contradict each other, and for those that a one-stage model has no use for.
    """
    images.use_one_thread()
    path = weights.find(model)
    if _is_one_stage(path):
        given = {
            "boxes": boxes is not None,
            "whole_image": whole_image,
            "detector": detector is not None and not _is_default(detector),
            "flip_test": flip_test,
            "refine": refine,
        }
        _refuse_for_one_stage(path, given)
        return Models(OneStage(open_session(path, device), conf=conf, max_people=max_people))
    check_finder(boxes=boxes, whole_image=whole_image, detector=detector, conf=conf, max_people=max_people)
    people = None
    if boxes is None and not whole_image:
        assert detector is not None  # check_finder
        file = weights.find_detector(detector)
        people = Detector(open_session(file, device), conf=conf, max_people=max_people)
    return Models(Estimator(open_session(path, device), flip_test=flip_test, refine=refine), people)


def check_finder(
    *,
    boxes: object,
    whole_image: bool,
    detector: object,
    conf: float | None,
    max_people: int | None,
) -> None:
    """InputError unless exactly one says where the people are: boxes, the whole image, or the detector.

    The default detector gives way to the other two; another one, or options of the detector, contradict them.
    """
    finders = {
        "boxes": boxes is not None,
        "whole_image": whole_image,
        "detector": detector is not None and not _is_default(detector),
    }
    names = [name for name, is_given in finders.items() if is_given]
    if not names and detector is None:
        raise InputError(
            "Nothing says where the people are: give --detector FILE, --boxes FILE or --whole-image (in Python"
            " detector=, boxes= or whole_image=True)."
        )
    if boxes is not None or whole_image:
        of_detector = {"conf": conf, "max_people": max_people}
        names += [name for name, value in of_detector.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} contradict each other: leave one out.")


def _is_default(detector: object) -> bool:
    return isinstance(detector, str) and detector == DEFAULT_DETECTOR


def _is_one_stage(model: Path) -> bool:
    """Path of an .onnx file -> whether it finds people by itself."""
    return _kind(model, model.stat().st_mtime_ns) == POSES.name


@lru_cache(maxsize=16)
def _kind(model: Path, modified_ns: int) -> str:
    """Read once for each version of a file: `estimate` asks for every image."""
    return read_manifest(model).kind


def _refuse_for_one_stage(model: Path, options: Mapping[str, bool]) -> None:
    """InputError for the first option that is given."""
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise InputError(f"{model}: finds people and poses in one stage, without {given[0]}; leave it out.")
