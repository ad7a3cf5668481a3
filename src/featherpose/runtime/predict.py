"""Inference on image files and folders: the work of the command `predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import files, images
from featherpose.draw import draw
from featherpose.errors import InputError, with_name
from featherpose.formats import file_names, native
from featherpose.formats.outputs import find_format
from featherpose.poses import Poses
from featherpose.records import Counts, Group, Id, Tally, count_notes
from featherpose.runtime import resume
from featherpose.runtime.estimator import Request
from featherpose.runtime.finder import Finder, make_finder
from featherpose.runtime.given_boxes import AnyBoxes, BoxLookup, GivenBoxes, read_boxes
from featherpose.runtime.given_boxes import whole_image as box_of_whole_image
from featherpose.runtime.models import Models
from featherpose.runtime.results import Destination, Results
from featherpose.runtime.resume import Stamp
from featherpose.runtime.sources import AnyPath, ImageFile, find_images, parse_shard, select_shard
from featherpose.runtime.stopwatch import Stopwatch
from featherpose.runtime.video import VideoReport


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
    saved: list[str]
    """What each of the other formats has written below the folder for the results."""
    model: Path
    detector: Path | None
    """None: the boxes were given, or the model finds them."""
    conf: float | None
    """Lowest score of a person that is found; None: the boxes were given."""
    device: str
    threads: int
    seconds: dict[str, float]
    """By stage: reading, detection, poses, writing."""
    counts: tuple[Counts, ...] = ()
    """Of the files, and of the boxes that were given."""
    warnings: tuple[str, ...] = ()
    """What looks wrong about the boxes or the images, one sentence each."""
    videos: list[VideoReport] = field(default_factory=list[VideoReport])
    """Of the sources that are videos; the fields above but the models, the failures and the device are about images."""
    num_videos: int = 0
    """Including those that failed."""


def predict(
    sources: Iterable[AnyPath],
    models: Models,
    *,
    boxes: AnyBoxes | None = None,
    whole_image: bool = False,
    category: Id | None = None,
    strict: bool = False,
    out: AnyPath = "out",
    json_file: AnyPath | None = None,
    save: Sequence[str] = ("json",),
    shard: str | None = None,
    overwrite: bool = False,
    draw_images: bool = True,
    draw_boxes: bool = False,
    draw_ids: bool = False,
    score_threshold: float = 0.3,
    max_pixels: int = images.MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Images (`sources.find_images`) -> poses of the persons on them; drawn images and files with poses in `out`.

    The models find the persons, unless `boxes`, a JSON file or its content (`formats.person_boxes`), gives them or
    `whole_image` says that every image shows one person (they were opened for that). An image that fails is listed in
    the failures; the others are processed. Images that an earlier run with the same options has done are skipped, and
    after an interrupt the files contain the images done so far. `progress` is called with the number of images done and
    the total, without those that are skipped. `api.predict` explains the other options.
    """
    known_boxes = None if boxes is None else read_boxes(boxes, category)
    if not draw_images and (draw_boxes or draw_ids):
        raise InputError("Boxes and ids are drawn on images: leave out --no-draw, or --draw-boxes and --draw-ids.")
    drawing = _Drawing(score_threshold, draw_boxes, draw_ids) if draw_images else None
    plan = _plan(sources, Path(out), json_file, save, shard, draw_images=draw_images)
    given_boxes = None if known_boxes is None else GivenBoxes(known_boxes, plan.all_files, strict=strict)
    options = {
        **models.options,
        "boxes": None if known_boxes is None else known_boxes.digest,
        "category": category,
        "whole_image": whole_image,
        "drawn": None if drawing is None else [drawing.score_threshold, drawing.boxes, drawing.ids],
    }
    settings = resume.settings_of(models.session.path, models.detector_file, options)
    results = Results(plan.destination, plan.image_files, models.manifest, settings)
    if not overwrite:
        results.resume()
    num_resumed = results.num_done
    watch = Stopwatch()
    finder = make_finder(models, box_of_whole_image if whole_image else given_boxes, watch)
    saved = _process(plan, results, finder, drawing, watch, max_pixels, progress)
    return Report(
        poses=results.poses(),
        failures=plan.failures,
        num_resumed=num_resumed,
        json_file=plan.destination.json_file,
        saved=saved,
        model=models.session.path,
        detector=models.detector_file,
        conf=models.conf,
        device=models.session.device,
        threads=models.session.threads,
        seconds=dict(watch.seconds),
        counts=(_count_files(plan.tally, plan.failures), *([given_boxes.counts] if given_boxes else [])),
        warnings=(*(given_boxes.warnings if given_boxes else ()), *count_notes(plan.notes)),
    )


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which images are processed, and where their results go."""

    all_files: list[ImageFile]
    """Of all shards: these share the folder, so names are unique over them."""
    image_files: list[ImageFile]
    """Of this shard."""
    destination: Destination
    failures: list[str]
    """One line for each source that cannot be used; those of images are added."""
    tally: Tally
    notes: dict[str, str] = field(default_factory=dict[str, str])
    """By the name of the image, what was not taken as it is; added when it is read."""


def _plan(
    sources: Iterable[AnyPath],
    out: Path,
    json_file: AnyPath | None,
    save: Sequence[str],
    shard: str | None,
    *,
    draw_images: bool,
) -> _Plan:
    """Sources and where results are wanted -> the plan; InputError where one would overwrite an image or another."""
    formats = {name: find_format(name) for name in save}
    tally = Tally("files")
    all_files, failures = find_images(sources, out, tally)
    tally.total += len(failures)
    image_files = all_files
    shard_name = ""
    if shard is not None:
        index, count = parse_shard(shard)
        shard_name = f"{index}/{count}"
        image_files = select_shard(all_files, index, count)
        chosen = {image_file.path for image_file in image_files}
        for image_file in all_files:
            if image_file.path not in chosen:
                tally.leave_out("of other shards", image_file.name)
    destination = Destination(
        folder=out,
        json_file=Path(json_file or out / file_names.of_shard(native.FILE, shard_name)),
        draw_images=draw_images,
        formats=[name for name in formats if name != "json"],
        shard=shard_name,
        all_names=[image_file.name for image_file in all_files],
    )
    _check_overwriting(all_files, destination)
    if any(found.one_file_per_image for found in formats.values()):
        file_names.paths(out, destination.all_names, "")  # refused now, not after a run of hours
    return _Plan(all_files, image_files, destination, failures, tally)


@dataclass(frozen=True)
class _Drawing:
    """How poses are drawn on their images."""

    score_threshold: float
    boxes: bool
    ids: bool

    def write(self, path: Path, image: NDArray[np.uint8], poses: Poses) -> None:
        """Draw the poses on the image and write it."""
        drawn = draw(image, poses, score_threshold=self.score_threshold, boxes=self.boxes, ids=self.ids)
        files.make_folder(path.parent)
        images.write(path, drawn)


def _process(
    plan: _Plan,
    results: Results,
    finder: Finder,
    drawing: _Drawing | None,
    watch: Stopwatch,
    max_pixels: int,
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """Estimate what remains to be done, one image after the other; an estimator reads a few ahead.

    Results are written now and then and at the end, also after an interrupt -> what each format has written. Images
    that cannot be used are added to the plan's failures.
    """
    saved: list[str] = []
    remaining = results.remaining()
    requests = watch.each("reading", _requests(remaining, finder.boxes_of, max_pixels, plan.failures, plan.notes))
    try:
        for request, poses in watch.each("poses", finder.estimate(requests)):
            if progress:
                progress(request.index, len(remaining))
            with watch.stage("writing"):
                try:
                    if drawing:
                        drawing.write(plan.destination.folder / request.file.drawn_name, request.image, poses)
                    results.add(request.file, poses, request.stamp)
                except InputError as error:
                    plan.failures.append(with_name(request.file.path, error))
                results.write_if_due()
        if progress:
            progress(len(remaining), len(remaining))
    finally:
        # Where no image could be used, or none is done yet, the results of an earlier run stay.
        if results.num_done or not (remaining or plan.failures):
            with watch.stage("writing"):
                saved = results.write()
    return saved


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


def _count_files(tally: Tally, failures: Sequence[str]) -> Counts:
    """Files that were found, and those that could not be used -> their counts, complete after the last image."""
    counts = tally.counts()
    failed = Group("that could not be used", len(failures), failures[0].partition(": ")[0]) if failures else None
    return replace(counts, left_out=(*counts.left_out, *([failed] if failed else [])))


def _check_overwriting(image_files: list[ImageFile], destination: Destination) -> None:
    out = destination.folder
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, wanted a folder for the results. Choose another --out.")
    files.check_writable(destination.json_file)
    originals = {files.resolved(image_file.path) for image_file in image_files}
    for result in (destination.json_file, *(out / image_file.drawn_name for image_file in image_files)):
        if files.resolved(result) in originals:
            raise InputError(f"{result}: the result would overwrite the input image. Choose another --out.")
