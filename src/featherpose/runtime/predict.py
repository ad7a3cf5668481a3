"""Inference on image files and folders: the work of the command `predict`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import images, weights
from featherpose.draw import draw
from featherpose.errors import InputError, with_name
from featherpose.poses import Poses
from featherpose.records import Counts, Group, Id, Tally
from featherpose.runtime import resume
from featherpose.runtime.detector import Detections, Detector
from featherpose.runtime.estimator import Estimator, Request
from featherpose.runtime.given_boxes import AnyBoxes, BoxLookup, GivenBoxes, read_boxes
from featherpose.runtime.given_boxes import whole_image as box_of_whole_image
from featherpose.runtime.pipeline import DEFAULT_DETECTOR, check_finder, without_duplicates
from featherpose.runtime.results import Results, make_folder
from featherpose.runtime.resume import Stamp
from featherpose.runtime.sources import AnyPath, ImageFile, find_images, parse_shard, select_shard
from featherpose.runtime.stopwatch import Stopwatch


@dataclass(frozen=True)
class Report:
    """The outcome of a run."""

    poses: dict[str, Poses]
    """By the name of the image, in order."""
    failures: list[str]
    """One line for each image or source that could not be used."""
    num_resumed: int
    """Images whose poses are those of an earlier run."""
    json_file: Path
    model: Path
    detector: Path | None
    """None: the boxes were given."""
    conf: float | None
    """Lowest score of the detector's boxes."""
    device: str
    threads: int
    seconds: dict[str, float]
    """By stage: reading, detection, poses, writing."""
    counts: tuple[Counts, ...] = ()
    """Of the files, and of the boxes that were given."""
    warnings: tuple[str, ...] = ()
    """What looks wrong about the boxes or the images, one sentence each."""


def predict(
    sources: Iterable[AnyPath],
    *,
    model: AnyPath = "default",
    detector: AnyPath | None = DEFAULT_DETECTOR,
    conf: float | None = None,
    max_people: int | None = None,
    boxes: AnyBoxes | None = None,
    whole_image: bool = False,
    category: Id | None = None,
    strict: bool = False,
    out: AnyPath = "out",
    json_file: AnyPath | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    flip_test: bool = False,
    refine: bool = False,
    draw_images: bool = True,
    score_threshold: float = 0.3,
    max_pixels: int = images.MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Images (`sources.find_images`) -> poses of the persons on them; drawn images and poses.json in `out`.

    The detector finds the persons, unless `boxes`, a JSON file or its content (`formats.person_boxes`), gives them or
    `whole_image` says that every image shows one person. An image that fails is listed in the failures; the others are
    processed. Images that an earlier run with the same options has done are skipped, and after an interrupt poses.json
    contains the images done so far. `progress` is called with the number of images done and the total, without those
    that are skipped. `api.predict` explains the other options.
    """
    check_finder(boxes=boxes, whole_image=whole_image, detector=detector, conf=conf, max_people=max_people)
    boxes_of: BoxLookup | None = box_of_whole_image if whole_image else None
    known_boxes = None if boxes is None else read_boxes(boxes, category)

    # Which images, and where their results go. Names are unique over all shards, because these share the folder.
    out = Path(out)
    files = Tally("files")
    image_files, failures = find_images(sources, out, files)
    files.total += len(failures)
    json_name = "poses.json"
    _check_overwriting(image_files, out, Path(json_file or out / json_name))
    given_boxes = None
    if known_boxes is not None:
        given_boxes = GivenBoxes(known_boxes, image_files, strict=strict)
        boxes_of = given_boxes
    if shard is not None:
        index, count = parse_shard(shard)
        image_files = select_shard(image_files, index, count)
        json_name = f"poses-{index}-of-{count}.json"
    json_file = Path(json_file or out / json_name)
    drawn_in = out if draw_images else None

    # The models. A detector takes the place of boxes that are given.
    watch = Stopwatch()
    estimator = Estimator.open(weights.find(model), device, flip_test=flip_test, refine=refine)
    detector_file = None
    if boxes_of is None:
        assert detector is not None  # check_finder
        detector_file = weights.find_detector(detector)
        people_detector = Detector.open(detector_file, device, conf=conf, max_people=max_people)
        conf = people_detector.conf
        boxes_of = _timed(people_detector, watch)

    # What an earlier run has done
    options = {
        "conf": conf,
        "max_people": max_people,
        "boxes": _digest(boxes),
        "category": category,
        "whole_image": whole_image,
        "flip_test": flip_test,
        "refine": refine,
        "score_threshold": score_threshold if draw_images else None,
    }
    settings = resume.settings_of(estimator.session.path, detector_file, options)
    results = Results(json_file, image_files, drawn_in, estimator.manifest, settings)
    if not overwrite:
        results.resume()
    num_resumed = results.num_done
    remaining = results.remaining()

    # One image after the other; the estimator reads a few ahead.
    notes: dict[str, str] = {}
    requests = watch.each("reading", _requests(remaining, boxes_of, max_pixels, failures, notes))
    try:
        for request, estimated in watch.each("poses", estimator.estimate_requests(requests)):
            if progress:
                progress(request.index, len(remaining))
            # Boxes that are given are kept, all of them and in their order.
            poses = estimated if detector_file is None else without_duplicates(estimated)
            with watch.stage("writing"):
                try:
                    if drawn_in is not None:
                        _write_drawn(drawn_in / request.file.drawn_name, request.image, poses, score_threshold)
                    results.add(request.file, poses, request.stamp)
                except InputError as error:
                    failures.append(with_name(request.file.path, error))
                results.write_if_due()
        if progress:
            progress(len(remaining), len(remaining))
    finally:
        # Where no image could be used, or none is done yet, the results of an earlier run stay.
        if results.num_done or not (remaining or failures):
            with watch.stage("writing"):
                results.write()
    return Report(
        poses=results.poses(),
        failures=failures,
        num_resumed=num_resumed,
        json_file=json_file,
        model=estimator.session.path,
        detector=detector_file,
        conf=conf,
        device=estimator.session.device,
        threads=estimator.session.threads,
        seconds=dict(watch.seconds),
        counts=(_count_files(files, failures), *([given_boxes.counts] if given_boxes else [])),
        warnings=(*(given_boxes.warnings if given_boxes else ()), *_counted(notes)),
    )


@dataclass(frozen=True, eq=False)
class _ImageRequest(Request):
    """An image that has been read, with its boxes; its file, with the stamp from before it was read, and its index."""

    file: ImageFile
    stamp: Stamp | None
    index: int


def _requests(
    image_files: Sequence[ImageFile],
    boxes_of: BoxLookup,
    max_pixels: int,
    failures: list[str],
    notes: dict[str, str],
) -> Iterator[_ImageRequest]:
    """Image files -> those that can be used; for each of the others a line is added to `failures`.

    `notes`: by the name of the image, what was not taken as it is.
    """
    for index, image_file in enumerate(image_files):
        try:
            stamp = resume.stamp_of(image_file.path)
            said: list[str] = []
            pixels = images.read(image_file.path, max_pixels=max_pixels, notes=said)
            if said:
                notes[image_file.name] = "; ".join(said)
            request = Request.checked(pixels, *boxes_of(image_file, pixels))
        except InputError as error:
            failures.append(with_name(image_file.path, error))
        else:
            yield _ImageRequest(request.image, request.boxes, request.scores, image_file, stamp, index)


def _count_files(files: Tally, failures: Sequence[str]) -> Counts:
    """Files that were found, and those that could not be used -> their counts, complete after the last image."""
    counts = files.counts()
    failed = Group("that could not be used", len(failures), failures[0].partition(": ")[0]) if failures else None
    return replace(counts, left_out=(*counts.left_out, *([failed] if failed else [])))


def _counted(notes: Mapping[str, str]) -> Iterator[str]:
    """What was said about images, by their names -> each sentence once, with how many images it is true of."""
    for sentence, number in Counter(notes.values()).items():
        first = next(name for name, said in notes.items() if said == sentence)
        yield f"{number} images (first {first}): {sentence}."


def _timed(detector: Detector, watch: Stopwatch) -> BoxLookup:
    """Detector -> the boxes of each image; its time is counted."""

    def detect(_: ImageFile, pixels: NDArray[np.uint8]) -> Detections:
        with watch.stage("detection"):
            return detector(pixels)

    return detect


def _digest(boxes: AnyBoxes | None) -> str | None:
    """File with boxes, or its content -> digest."""
    if boxes is None:
        return None
    content = json.dumps(boxes).encode() if isinstance(boxes, dict | list) else Path(boxes).read_bytes()
    return hashlib.sha256(content).hexdigest()


def _check_overwriting(image_files: list[ImageFile], out: Path, json_file: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, wanted a folder for the results. Choose another --out.")
    originals = {image_file.path.resolve() for image_file in image_files}
    for result in (json_file, *(out / image_file.drawn_name for image_file in image_files)):
        if result.resolve() in originals:
            raise InputError(f"{result}: the result would overwrite the input image. Choose another --out.")


def _write_drawn(path: Path, image: NDArray[np.uint8], poses: Poses, score_threshold: float) -> None:
    make_folder(path.parent)
    images.write(path, draw(image, poses, score_threshold=score_threshold))
