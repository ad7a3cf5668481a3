"""Inference on videos: frames with poses one after the other, and the work of the command `predict` on videos."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.draw import draw
from featherpose.errors import InputError, with_name
from featherpose.poses import Poses
from featherpose.runtime.models import Models
from featherpose.runtime.one_stage import OneStage
from featherpose.runtime.pipeline import TopDown
from featherpose.runtime.smoothing import MODES, make_smoother
from featherpose.runtime.stopwatch import Stopwatch
from featherpose.runtime.stream import Background, FindAll, FindInFrame, FindSometimes, poses_of_frames
from featherpose.runtime.tracker import Tracker
from featherpose.runtime.video_sinks import DrawnVideo, JsonLines, Table
from featherpose.runtime.video_sources import SUFFIXES, Frame, Video, VideoSource, open_video

FORMATS = ("json", "jsonl", "csv")
"""What is saved of a video besides the poses in JSON Lines, which are always written: json, a summary of the run with
the seconds of each stage; csv, a table of the keypoints."""


@dataclass(frozen=True)
class VideoReport:
    """The outcome of a run on one video."""

    name: str
    num_frames: int
    num_people: int
    """Different ids."""
    drawn: Path | None
    """The drawn video; None: not asked for."""
    saved: list[Path]
    """Files with poses, JSON Lines first, and the summary."""
    notes: list[str]
    """What went wrong on the way, or was decided: a sentence each."""
    smooth: str
    num_detections: int
    """Frames in which the detector, or a model that finds people by itself, ran."""
    is_interrupted: bool
    wall_seconds: float
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """By stage; the stages overlap in threads: reading, inference (detection, poses, tracking, smoothing),
    drawing and writing."""


def find_in_frames(models: Models, tracker: Tracker, watch: Stopwatch, every: int | None) -> FindInFrame:
    """What finds and tracks the people, with the detector in every `every`-th frame; None: chosen."""
    if isinstance(models.finder, TopDown):
        return FindSometimes(models.finder, tracker, watch, every)
    if every not in (None, 1):
        raise InputError(f"every is {every}, but there is no detector to be left out in some frames; leave it out.")
    poses = models.poses
    return FindAll(poses if isinstance(poses, OneStage) else partial(poses, whole_image=True), tracker, watch)


class Run:
    """The threads that read a video and estimate poses; iterate for the frames and their poses.

    `smooth` is a name in `smoothing.MODES`; None: "live" for a live source, else "file".
    """

    def __init__(self, video: Video, models: Models, *, smooth: str | None = None, every: int | None = None) -> None:
        self.video = video
        self.smooth = smooth or ("live" if video.is_live else "file")
        # A stopwatch counts for one thread.
        self._reading = Stopwatch()
        self._inference = Stopwatch()
        smoother = make_smoother(self.smooth)
        self._find = find_in_frames(models, Tracker(), self._inference, every)
        self._frames = Background(self._reading.each("reading", video), drop_oldest=video.is_live)
        found = poses_of_frames(self._frames, self._find, smoother, self._inference)
        self._found = Background(found)

    def __iter__(self) -> Iterator[tuple[Frame, Poses]]:
        return iter(self._found)

    @property
    def num_detections(self) -> int:
        """Frames in which people were searched, so far."""
        return self._find.num_detections

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, so far."""
        return {**self._reading.seconds, **self._inference.seconds}

    def finish(self) -> None:
        """Read no more frames; the poses of those that were read are still given."""
        self._frames.finish()

    def close(self) -> None:
        """Stop the threads."""
        self._frames.finish()
        self._found.close()
        self._frames.close()


def stream(
    video: Video, models: Models, *, smooth: str | None = None, every: int | None = None
) -> Generator[tuple[Frame, Poses]]:
    """The frames and poses of a run (`Run`), which begins and ends with the iteration."""
    run = Run(video, models, smooth=smooth, every=every)
    try:
        yield from run
    finally:
        run.close()


def check_options(*, smooth: str | None, every: int | None) -> None:
    """InputError for values that are not known."""
    if smooth is not None and smooth not in MODES:
        raise InputError(f"The smoothing is {smooth!r}, wanted {', '.join(MODES)}.")
    if every is not None and every < 1:
        raise InputError(f"every is {every}, wanted auto or a number of frames of at least 1.")


def check_suited(save: Sequence[str], of_images: Mapping[str, object]) -> None:
    """InputError for what cannot be done with a video; `of_images` are options that only images have, None: not
    given."""
    given = [name for name, value in of_images.items() if value is not None]
    if given:
        raise InputError(f"{given[0]} is for images, and there is a video among the sources; leave it out.")
    wrong = [name for name in save if name not in FORMATS]
    if wrong:
        raise InputError(f"Poses in a video are saved as {', '.join(FORMATS)}, not as {wrong[0]}.")


def predict_videos(
    sources: Sequence[VideoSource],
    models: Models,
    out: Path,
    *,
    smooth: str | None = None,
    every: int | None = None,
    save: Sequence[str] = ("json",),
    draw_frames: bool = True,
    draw_boxes: bool = False,
    draw_ids: bool = False,
    score_threshold: float = 0.3,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[VideoReport], list[str]]:
    """Videos -> what was written into `out` for each, and a line for each video that could not be used.

    After Ctrl-C the frames that were read are completed, all files are closed, and the videos after it are left out.
    """
    check_options(smooth=smooth, every=every)
    check_suited(save, {})
    files.make_folder(out)
    reports: list[VideoReport] = []
    failures: list[str] = []
    stems: set[str] = set()
    for source in sources:
        try:
            video = open_video(source)
            stem = _unique(_stem(video.name), stems)
            sinks = _Sinks(video, models, out, stem, draw_frames, "csv" in save)
        except InputError as error:
            failures.append(with_name(source, error))
            continue
        started = time.perf_counter()
        run = Run(video, models, smooth=smooth, every=every)
        with _finishing_on_interrupt(run) as is_interrupted:
            try:
                for frame, poses in run:
                    drawn = None
                    if draw_frames:
                        with sinks.watch.stage("drawing"):
                            drawn = draw(
                                frame.image, poses, score_threshold=score_threshold, boxes=draw_boxes, ids=draw_ids
                            )
                    with sinks.watch.stage("writing"):
                        sinks.write(frame, poses, drawn)
                    if progress:
                        progress(sinks.num_frames, max(video.num_frames or 0, sinks.num_frames))
            except InputError as error:
                # What was done until then is kept.
                failures.append(with_name(source, error))
            finally:
                run.close()
                try:
                    with sinks.watch.stage("writing"):
                        sinks.close()
                except InputError as error:
                    failures.append(with_name(source, error))
        if sinks.num_frames:
            summaries = [out / f"{stem}.summary.json"] if "json" in save else []
            report = VideoReport(
                name=video.name,
                num_frames=sinks.num_frames,
                num_people=len(sinks.ids),
                drawn=None if sinks.drawn is None else sinks.drawn.path,
                saved=[*sinks.saved, *summaries],
                notes=[*video.notes, *([] if sinks.drawn is None else sinks.drawn.notes)],
                smooth=run.smooth,
                num_detections=run.num_detections,
                is_interrupted=is_interrupted.is_set(),
                wall_seconds=time.perf_counter() - started,
                seconds={**run.seconds, **sinks.watch.seconds},
            )
            for summary in summaries:
                _write_summary(report, models, summary)
            reports.append(report)
        if is_interrupted.is_set():
            break
    return reports, failures


def _write_summary(report: VideoReport, models: Models, path: Path) -> None:
    """What a run did, with which models, and how long each stage took, as JSON; the poses are in the JSON Lines."""
    summary = {
        "video": report.name,
        "frames": report.num_frames,
        "people": report.num_people,
        "model": models.session.path.name,
        "detector": None if models.detector_file is None else models.detector_file.name,
        "conf": models.conf,
        "frames_with_detection": report.num_detections,
        "smooth": report.smooth,
        "interrupted": report.is_interrupted,
        "notes": report.notes,
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
        "wall_seconds": round(report.wall_seconds, 3),
    }
    files.replace(path, (json.dumps(summary, indent=1) + "\n").encode())


class _Sinks:
    """Everything that is written for one video."""

    def __init__(self, video: Video, models: Models, out: Path, stem: str, draw_frames: bool, with_table: bool) -> None:
        self.watch = Stopwatch()
        self.num_frames = 0
        self.ids: set[int] = set()
        self.drawn: DrawnVideo | None = None
        path = out / f"{stem}.mp4"
        if draw_frames:
            if video.path is not None and path.resolve() == video.path.resolve():
                raise InputError(f"{path}: the drawn video would overwrite the input. Choose another --out.")
            self.drawn = DrawnVideo(path, video.rate, audio_from=video.path, is_live=video.is_live)
        manifest = models.manifest
        self.saved = [out / f"{stem}.jsonl"]
        self._sinks: list[JsonLines | Table] = [
            JsonLines(self.saved[0], video.name, manifest.skeleton, manifest.network)
        ]
        if with_table:
            self.saved.append(out / f"{stem}.csv")
            try:
                self._sinks.append(Table(self.saved[1], video.name))
            except InputError:
                self.close()
                raise

    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """A frame, its poses, and the drawn frame."""
        for sink in self._sinks:
            sink.write(frame, poses)
        if self.drawn is not None and drawn is not None:
            self.drawn.write(drawn, frame.timestamp)
        self.num_frames += 1
        if poses.ids is not None:
            self.ids.update(poses.ids.tolist())

    def close(self) -> None:
        """Complete all files."""
        for sink in self._sinks:
            sink.close()
        if self.drawn is not None:
            self.drawn.close()


@contextmanager
def _finishing_on_interrupt(run: Run) -> Generator[threading.Event]:
    """Ctrl-C finishes the run; a second one ends it at once. Yields whether there was one."""
    is_interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield is_interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def finish(number: int, where: object) -> None:
        is_interrupted.set()
        signal.signal(signal.SIGINT, before)
        run.finish()

    signal.signal(signal.SIGINT, finish)
    try:
        yield is_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _stem(name: str) -> str:
    """Name of a video -> that of its results, without the suffix of a video."""
    return Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name


def _unique(stem: str, taken: set[str]) -> str:
    """The second clip of a name becomes clip-2; some file systems treat A and a as the same."""
    number = 1
    found = stem
    while found.lower() in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found.lower())
    return found
