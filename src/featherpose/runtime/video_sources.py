"""Video in: a file, a camera, an HTTP or RTSP address, or a folder of frames -> RGB frames with index and time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from featherpose import files, images
from featherpose.errors import InputError
from featherpose.size import Size

VideoSource = str | os.PathLike[str] | int
"""Path of a video or of a folder of frames, address, or index of a camera."""

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv", ".y4m"),
)
"""File names of videos end in one of these."""

DEFAULT_RATE = 25.0
"""Frames per second where the source does not say it."""

ATTEMPTS = 3
"""So often a live source that stopped is opened again before it has ended."""

TIMEOUT_MS = 10_000
"""An address that sends nothing for so long has stopped."""

_ADDRESS = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Frame:
    """RGB uint8 (H, W, 3), index from 0, and time in s: from the container, for live sources since it was opened."""

    image: NDArray[np.uint8]
    index: int
    timestamp: float


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`; tests have a stand-in for cameras."""

    def isOpened(self) -> bool: ...
    def read(self) -> tuple[bool, Any]: ...
    def get(self, key: int, /) -> float: ...
    def release(self) -> None: ...


OpenCapture = Callable[[str | int], Capture]


@dataclass
class Video:
    """An opened source. Iterate over it once; what went wrong on the way is in `notes`, one sentence each."""

    name: str
    """Of the results: the file name, "camera-0", the host of an address."""
    size: Size
    """Of the first frame; it may change."""
    rate: float
    """Frames per second."""
    num_frames: int | None
    """As the container says, which may be wrong; None: unknown."""
    is_live: bool
    """Whether frames are lost when they are not taken in time."""
    path: Path | None
    """None: no file."""
    frames: Iterator[Frame]
    notes: list[str] = field(default_factory=list[str])

    def __iter__(self) -> Iterator[Frame]:
        return self.frames


def is_video(source: VideoSource) -> bool:
    """Whether a source of `predict` is a video: its suffix, an address that is no image, or a camera's index."""
    text = str(source)
    if _ADDRESS.match(text):
        return Path(urlsplit(text).path).suffix.lower() not in images.SUFFIXES
    return _camera(source) is not None or Path(text).suffix.lower() in SUFFIXES


def open_video(
    source: VideoSource,
    *,
    rate: float | None = None,
    retry_seconds: float = 1.0,
    open_capture: OpenCapture | None = None,
) -> Video:
    """Source -> Video, whose first frame has been read. Frames are upright: rotation flags are applied.

    Args:
        rate: frames per second of a folder, or where the source gives a wrong one; None: that of the source.
        retry_seconds: pause before a live source that stopped is opened again.
        open_capture: in place of OpenCV's, for tests.

    Raises:
        InputError: a source that cannot be opened, or has no frame.
    """
    if rate is not None and not 0 < rate <= 1000:
        raise InputError(f"The frame rate is {rate}, wanted frames per second above 0.")
    camera = _camera(source)
    text = os.fspath(source) if not isinstance(source, int) else str(source)
    if camera is None and not _ADDRESS.match(text):
        path = Path(text)
        if path.is_dir():
            return _open_folder(path, rate or DEFAULT_RATE)
        _check_file(path)
    reader = _Reader(text if camera is None else camera, rate, retry_seconds, open_capture or _open_capture)
    return reader.video()


class _Reader:
    """Reads a file, a camera or an address through OpenCV."""

    def __init__(self, source: str | int, rate: float | None, retry_seconds: float, open_capture: OpenCapture) -> None:
        self.source = source
        self.what = f"camera {source}" if isinstance(source, int) else source
        address = urlsplit(source) if isinstance(source, str) and _ADDRESS.match(source) else None
        # The address of a video file is read like the file.
        self.is_live = isinstance(source, int) or (
            address is not None and Path(address.path).suffix.lower() not in SUFFIXES
        )
        self.path = Path(source) if isinstance(source, str) and address is None else None
        self.name = f"camera-{source}" if self.path is None else self.path.name
        if address is not None:
            self.name = re.sub(r"[^\w.-]+", "-", f"{address.hostname or 'stream'}{address.path}").strip("-")
        self.retry_seconds = retry_seconds
        self.open_capture = open_capture
        self.notes: list[str] = []
        self.capture = self._open()
        self.start = time.monotonic()
        first = self._read()
        if first is None:
            self.capture.release()
            raise InputError(f"{self.what}: contains no frame that can be read. Is it a video, with more than sound?")
        self.first = first
        said = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate or (said if 0 < said <= 1000 else DEFAULT_RATE)
        count = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.num_frames = int(count) if 0 < count < 1e9 and not self.is_live else None

    def video(self) -> Video:
        height, width = self.first.shape[:2]
        size = Size(height=height, width=width)
        frames = self._frames()
        return Video(self.name, size, self.rate, self.num_frames, self.is_live, self.path, frames, self.notes)

    def _frames(self) -> Iterator[Frame]:
        try:
            image: NDArray[np.uint8] | None = self.first
            index = 0
            timestamp = -1.0 / self.rate
            while image is not None:
                timestamp = self._timestamp(timestamp)
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), index, timestamp)
                index += 1
                image = self._read()
                if image is None and self.is_live:
                    image = self._read_again(index)
            if self.num_frames and index < 0.98 * self.num_frames - 1:
                self.notes.append(
                    f"{self.what}: ended after {index} of about {self.num_frames} frames; the file may be truncated."
                )
        finally:
            self.capture.release()

    def _timestamp(self, previous: float) -> float:
        """Time of the frame that was just read; one after the other, also where the container is wrong."""
        if self.is_live:
            return max(time.monotonic() - self.start, previous)
        seconds = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return seconds if seconds > previous else previous + 1 / self.rate

    def _read(self) -> NDArray[np.uint8] | None:
        try:
            is_read, image = self.capture.read()
        except cv2.error as error:
            self.notes.append(f"{self.what}: reading stopped ({error.err}).")
            return None
        return np.asarray(image, np.uint8) if is_read and image is not None else None

    def _read_again(self, index: int) -> NDArray[np.uint8] | None:
        """The next frame of a live source that has stopped, after opening it again; None: it has ended."""
        for _ in range(ATTEMPTS):
            time.sleep(self.retry_seconds)
            self.capture.release()
            with quiet():
                self.capture = self.open_capture(self.source)
            image = self._read() if self.capture.isOpened() else None
            if image is not None:
                self.notes.append(f"{self.what}: stopped after {index} frames and was opened again.")
                return image
        self.notes.append(f"{self.what}: ended after {index} frames; {ATTEMPTS} attempts to open it again failed.")
        return None

    def _open(self) -> Capture:
        with quiet():
            capture = self.open_capture(self.source)
        if capture.isOpened():
            return capture
        capture.release()
        if isinstance(self.source, int):
            raise InputError(f"{self.what}: cannot be opened. Is it connected, and does no other program use it?")
        if self.path is None:
            raise InputError(f"{self.what}: cannot be opened. Check the address: does it play in another program?")
        hint = (
            files.mistaken_for(self.path)
            or "damaged, truncated, without a picture, or in a format that OpenCV does not read"
        )
        raise InputError(f"{self.what}: cannot be opened as a video: {hint}. Convert it: ffmpeg -i FILE video.mp4")


def _open_capture(source: str | int) -> Capture:
    """As `cv2.VideoCapture`, with limits on the time."""
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    if not _ADDRESS.match(source):
        capture = cv2.VideoCapture(source)
        # Phones store how the phone was held. On by default, but not with every backend of every version.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)


@contextmanager
def quiet() -> Generator[None]:
    """OpenCV and its FFmpeg print what our errors say better."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _open_folder(folder: Path, rate: float) -> Video:
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in images.SUFFIXES and path.is_file()), key=_order
    )
    if not paths:
        raise InputError(f"{folder}: no image in this folder. Looked for {' '.join(images.SUFFIXES)}.")
    notes: list[str] = []
    frames = _folder_frames(paths, rate, notes)
    first = next(frames, None)
    if first is None:
        raise InputError(notes[0])
    size = Size(height=first.image.shape[0], width=first.image.shape[1])
    return Video(folder.resolve().name, size, rate, len(paths), False, None, _chained(first, frames), notes)


def _folder_frames(paths: list[Path], rate: float, notes: list[str]) -> Iterator[Frame]:
    """A frame that cannot be read is missing, and noted; the times of the others stay."""
    for index, path in enumerate(paths):
        try:
            image = images.read(path)
        except InputError as error:
            notes.append(str(error))
            continue
        yield Frame(image, index, index / rate)


def _chained(first: Frame, others: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from others


def _order(path: Path) -> list[tuple[int, str]]:
    """frame-9.png comes before frame-10.png."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _camera(source: VideoSource) -> int | None:
    """Index of a camera; None: the source is none. A file named 0 is a file."""
    if isinstance(source, int):
        return source
    text = str(source)
    return int(text) if re.fullmatch(r"\d{1,3}", text) and not Path(text).exists() else None


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file. Wanted a video, a folder of frames, an address or a camera's index.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read (permission denied).")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty. Copy it again.")
