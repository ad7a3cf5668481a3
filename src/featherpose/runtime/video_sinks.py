"""Video out: drawn frames as H.264 through ffmpeg, or as mp4v; poses of each frame as JSON Lines and CSV.

Every file is complete whenever `close` is called, also after an interrupt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from featherpose import files, images
from featherpose.errors import InputError
from featherpose.formats import native, tidy_csv
from featherpose.poses import Poses
from featherpose.runtime.video_sources import Frame, quiet
from featherpose.size import Size
from featherpose.skeleton import Skeleton

MAX_REPEATS = 250
"""A pause of a live source is at most so many times the last frame."""

Image = NDArray[np.uint8]


class Encoder(Protocol):
    """Writes RGB frames of one size, with even sides, into a file."""

    def write(self, image: Image) -> None: ...
    def close(self) -> None: ...


class DrawnVideo:
    """Writes frames to an .mp4 file, which appears when it is closed; without a frame there is none.

    Frames of another size than the first are fitted into it. Of a live source, frames are repeated or left out so that
    the video is as fast as what it shows.

    Args:
        path: the file; its folder exists.
        rate: frames per second.
        audio_from: file whose sound is copied, where ffmpeg is used; None: no sound.
        is_live: whether the time of a frame counts, not its index.
    """

    def __init__(self, path: Path, rate: float, *, audio_from: Path | None = None, is_live: bool = False) -> None:
        files.check_writable(path)
        self.path = path
        self.rate = rate
        self.is_live = is_live
        self.audio_from = audio_from
        self.ffmpeg = _find_ffmpeg()
        self.notes: list[str] = []
        if self.ffmpeg is None:
            reason = "there is no ffmpeg with libx264 on the PATH; browsers and phones may refuse it"
            self.notes.append(f"{path}: written as mp4v without sound, because {reason}.")
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._encoder: Encoder | None = None
        self._first_size: Size | None = None
        self._num_written = 0

    def write(self, image: Image, timestamp: float) -> None:
        """RGB uint8 (H, W, 3), and its time in s."""
        size = Size(height=image.shape[0], width=image.shape[1])
        if self._first_size is None:
            self._first_size = size
        elif size != self._first_size and len(self.notes) < 2:
            self.notes.append(f"{self.path}: the frames change to {size}; they are fitted into {self._first_size}.")
        canvas = _fitted(image, self._first_size)
        if self._encoder is None:
            self._encoder = self._open(canvas)
        for _ in range(self._repeats(timestamp)):
            self._encoder.write(canvas)
            self._num_written += 1

    def close(self) -> None:
        """Complete the file."""
        if self._encoder is None:
            return
        encoder = self._encoder
        self._encoder = None
        try:
            encoder.close()
            # OpenCV does not say that a disk is full; ffmpeg does.
            if self.ffmpeg is None and not _is_playable(self._part):
                raise InputError(f"{self.path}: the video could not be written to its end. Is the disk full?")
            self._part.replace(self.path)
        except OSError as error:
            raise files.write_error(self.path, error) from None
        finally:
            self._part.unlink(missing_ok=True)

    def _repeats(self, timestamp: float) -> int:
        if not self.is_live:
            return 1
        return min(max(round(timestamp * self.rate) + 1 - self._num_written, 0), MAX_REPEATS)

    def _open(self, canvas: Image) -> Encoder:
        size = Size(height=canvas.shape[0], width=canvas.shape[1])
        if self.ffmpeg is None:
            return _OpenCv(self._part, size, self.rate)
        return _Ffmpeg(self.ffmpeg, self._part, size, self.rate, self.audio_from)


class _Ffmpeg:
    """H.264 through a pipe to ffmpeg."""

    def __init__(self, program: str, path: Path, size: Size, rate: float, audio_from: Path | None) -> None:
        self.path = path
        sound: list[str] = []
        if audio_from is not None:
            # To AAC, because .mp4 does not take every sound; ? stands for: if there is any.
            sound = ["-i", str(audio_from), "-map", "0:v", "-map", "1:a?", "-c:a", "aac", "-shortest"]
        # What OpenCV converts to: without the mark, players take the colors of a large video for those of BT.709.
        colors = ["-color_range", "tv", "-colorspace", "smpte170m"]
        format_ = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{size.width}x{size.height}", "-r", f"{rate:g}"]
        raw = [*format_, *colors, "-i", "-"]
        coded = ["-c:v", "libx264", "-preset", "superfast", "-crf", "20", *colors]
        command = [program, "-hide_banner", "-loglevel", "error", "-y", *raw, *sound, *coded, "-movflags", "+faststart"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        # A session of its own: Ctrl-C is for us, and we let it finish the file.
        self._process = subprocess.Popen(
            [*command, str(path)], stdin=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )

    def write(self, image: Image) -> None:
        assert self._process.stdin is not None
        try:
            # Converted here, and half as large for the pipe: 4 ms of 15 less for a frame of 720p.
            self._process.stdin.write(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).data)
        except OSError:
            raise self._error() from None

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the exit code says more
            self._process.stdin.close()
        failed = self._process.wait() != 0
        try:
            if failed:
                raise self._error()
        finally:
            self._errors.close()

    def _error(self) -> InputError:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
        return InputError(f"{self.path}: ffmpeg stopped ({lines[-1]}). Is the disk full?")


class _OpenCv:
    """MPEG-4 part 2 (mp4v), which the base install can write."""

    def __init__(self, path: Path, size: Size, rate: float) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size.xy)
        if not self._writer.isOpened():
            raise InputError(f"{path}: OpenCV cannot write a video of {size} pixels. Install ffmpeg, or leave it out.")

    def write(self, image: Image) -> None:
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


class _Lines:
    """A text file that is written line by line."""

    def __init__(self, path: Path, header: bytes) -> None:
        files.check_writable(path)
        self.path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise files.write_error(path, error) from None
        try:
            self.append(header)
        except InputError:
            self.close()
            raise

    def append(self, lines: bytes) -> None:
        """One call for whole lines: an interrupt cuts none of them."""
        try:
            self._file.write(lines)
        except OSError as error:
            raise files.write_error(self.path, error) from None

    def close(self) -> None:
        self._file.close()


class JsonLines:
    """Writes a poses.jsonl (`formats.jsonl`) with one frame a line, which also has "frame" and "timestamp" in s."""

    def __init__(self, path: Path, video: str, skeleton: Skeleton, model: str) -> None:
        self.video = video
        self.skeleton = skeleton
        self._lines = _Lines(path, _line(native.header(skeleton, model)))

    def write(self, frame: Frame, poses: Poses) -> None:
        """Append a frame."""
        entry = native.to_entry(frame_name(self.video, frame.index), poses, self.skeleton)
        image = {"image": entry.pop("image"), "frame": frame.index, "timestamp": round(frame.timestamp, 4)}
        self._lines.append(_line({**image, **entry}))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class Table:
    """Writes a poses.csv (`formats.tidy_csv`) of tracked persons with the columns of a video."""

    def __init__(self, path: Path, video: str) -> None:
        self.video = video
        self.columns = tidy_csv.columns_of(video=True, tracked=True, filled=True)
        self._lines = _Lines(path, tidy_csv.to_lines([self.columns]))

    def write(self, frame: Frame, poses: Poses) -> None:
        """Append a frame."""
        name = frame_name(self.video, frame.index)
        self._lines.append(tidy_csv.rows(name, poses, self.columns, frame=frame.index, timestamp=frame.timestamp))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _line(value: dict[str, Any]) -> bytes:
    return native.encode(native.to_line(value) + "\n")


def frame_name(video: str, index: int) -> str:
    """Name of a video and index of a frame -> the frame's name in files with poses.

    >>> frame_name("clip.mp4", 12)
    'clip.mp4/000012'
    """
    return f"{video}/{index:06d}"


def _is_playable(path: Path) -> bool:
    with quiet():
        capture = cv2.VideoCapture(str(path))
    try:
        return capture.isOpened()
    finally:
        capture.release()


def _find_ffmpeg() -> str | None:
    """Path of an ffmpeg that can write H.264; None: there is none."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False)
    return program if "libx264" in listed.stdout else None


def _fitted(image: Image, size: Size) -> Image:
    """Frame -> the frame in a canvas of `size`, made even: as large as fits, in the middle, on black."""
    even = Size(height=size.height + size.height % 2, width=size.width + size.width % 2)
    if image.shape[:2] == even.shape:
        return image
    canvas = np.zeros((*even.shape, 3), np.uint8)
    factor = min(size.height / image.shape[0], size.width / image.shape[1])
    height = max(1, round(factor * image.shape[0]))
    width = max(1, round(factor * image.shape[1]))
    fitted = images.resize(image, Size(height=height, width=width), "area" if factor < 1 else "linear")
    top = (size.height - height) // 2
    left = (size.width - width) // 2
    canvas[top : top + height, left : left + width] = fitted
    return canvas
