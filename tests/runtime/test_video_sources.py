"""Video sources: clips that the tests write, a stand-in for cameras, MJPEG over HTTP on the loopback address."""

import struct
import threading
import wave
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featherpose import images
from featherpose.errors import InputError
from featherpose.runtime.video_sources import Video, is_video, open_video
from featherpose.size import Size


def frame(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Black RGB, with a red rectangle that moves to the right, and a blue top-left corner."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:16, :16, 2] = 255
    pixels[24:40, 2 * index : 2 * index + 16, 0] = 255
    return pixels


def write_clip(path: Path, num_frames: int, *, rate: float = 25.0, height: int = 48, width: int = 64) -> Path:
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, (width, height))
    for index in range(num_frames):
        writer.write(frame(index, height, width)[..., ::-1])
    writer.release()
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_file_gives_rgb_frames_with_times(name: str, tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / name, 10, rate=20))
    assert (video.name, video.size, video.rate, video.num_frames) == (name, Size(height=48, width=64), 20, 10)
    frames = list(video)
    assert [found.index for found in frames] == list(range(10)) and video.notes == []
    assert [found.timestamp for found in frames] == pytest.approx([index / 20 for index in range(10)])
    for found in frames:
        assert np.abs(found.image.astype(int) - frame(found.index)).mean() < 12
    assert frames[0].image[4, 4].argmax() == 2 and frames[0].image[32, 4].argmax() == 0


def test_rotation_flag_is_applied(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "phone.mp4", 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44  # version 0: after times, id, duration, layer and volume
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    video = open_video(path)
    image = next(iter(video)).image
    assert video.size == Size(height=64, width=48) and image.shape == (64, 48, 3)
    assert image[4, -5].argmax() == 2  # a quarter turn clockwise


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, r"clip\.mp4: no such file", id="missing"),
        pytest.param(b"", r"clip\.mp4: the file is empty", id="empty"),
        pytest.param(b"no video" * 100, r"clip\.mp4: cannot be opened as a video: damaged", id="no video"),
        pytest.param(b"<!DOCTYPE html><p>", r"cannot be opened as a video: a web page", id="web page"),
    ],
)
def test_unusable_files_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_video(tmp_path / "clip.mp4")


@pytest.mark.parametrize("num_frames", [0, 20], ids=["zero frames", "truncated"])
def test_mp4_without_its_index_is_refused(num_frames: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames)
    path.write_bytes(path.read_bytes()[: 40 if num_frames == 0 else -600])
    with pytest.raises(InputError, match=r"clip\.mp4: (cannot be opened|contains no frame)"):
        open_video(path)


def test_file_with_sound_alone_is_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "clip.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    with pytest.raises(InputError, match=r"clip\.avi: cannot be opened as a video: .* without a picture"):
        open_video(tmp_path / "clip.avi")


def test_truncated_file_gives_its_frames_and_a_note(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", 40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    video = open_video(path)
    assert 10 < len(list(video)) < 30
    assert len(video.notes) == 1 and "of about 40 frames; the file may be truncated" in video.notes[0]


class StandIn:
    """A camera that gives some frames each time it is opened; None: it cannot be opened."""

    def __init__(self, frames: int | None) -> None:
        self.left = frames

    def isOpened(self) -> bool:
        return self.left is not None

    def read(self) -> tuple[bool, Any]:
        self.left = (self.left or 0) - 1
        return (self.left >= 0, frame(0) if self.left >= 0 else None)

    def get(self, key: int, /) -> float:
        return 0.0

    def release(self) -> None:
        pass


def camera(*openings: int | None) -> Video:
    """A camera that gives these numbers of frames, whenever it is opened again."""
    left = iter(openings)
    return open_video(0, retry_seconds=0, open_capture=lambda _: StandIn(next(left, None)))


@pytest.mark.parametrize(
    ("openings", "num_frames", "notes"),
    [
        pytest.param([4], 4, ["ended after 4 frames; 3 attempts"], id="ends"),
        pytest.param([4, None, 3], 7, ["opened again", "ended after 7 frames"], id="comes back"),
        pytest.param([4, None, None, None, 3], 4, ["ended after 4"], id="comes back too late"),
    ],
)
def test_camera_is_opened_again_some_times(openings: list[int | None], num_frames: int, notes: list[str]) -> None:
    video = camera(*openings)
    times = [found.timestamp for found in video]
    assert len(times) == num_frames and times == sorted(times) and video.is_live
    assert len(video.notes) == len(notes) and all(a in b for a, b in zip(notes, video.notes, strict=True))


@pytest.mark.parametrize(
    ("opening", "message"), [(None, "camera 0: cannot be opened"), (0, "camera 0: contains no frame")]
)
def test_camera_that_is_not_there(opening: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        camera(opening)


class Handler(BaseHTTPRequestHandler):
    """Eight JPEG images, one after the other, as network cameras send them."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for index in range(8):
            data = cv2.imencode(".jpg", frame(index)[..., ::-1])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
        self.server.visits += 1  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mjpeg() -> Generator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.visits = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/cam"
    server.shutdown()
    server.server_close()


def test_mjpeg_over_http(mjpeg: str) -> None:
    video = open_video(mjpeg, retry_seconds=0)
    assert video.name == "127.0.0.1-cam" and video.is_live
    frames: Iterator[Any] = iter(video)
    found = [next(frames) for _ in range(12)]  # the stream ends after 8 and is opened again
    assert found[2].image.shape == (48, 64, 3) and found[2].image[32, 12].argmax() == 0
    assert "stopped after 8 frames and was opened again" in video.notes[0]


def test_address_without_a_server() -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/cam: cannot be opened\. Check the address"):
        open_video("http://127.0.0.1:9/cam")


def test_folder_of_frames_in_natural_order(tmp_path: Path) -> None:
    for index in range(11):
        images.write(tmp_path / f"f{index}.png", frame(index))
    (tmp_path / "f3.png").write_bytes(b"broken")
    video = open_video(tmp_path, rate=10)
    found = list(video)
    assert [f.index for f in found] == [0, 1, 2, *range(4, 11)] and video.num_frames == 11
    assert all(np.array_equal(f.image, frame(f.index)) and f.timestamp == f.index / 10 for f in found)
    assert len(video.notes) == 1 and "f3.png" in video.notes[0]


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image in this folder"):
        open_video(tmp_path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.jpg", False),
        ("folder", False),
        ("a.MP4", True),
        ("0", True),
        (1, True),
        ("rtsp://host/stream", True),
        ("http://host/a.jpg", False),
        ("http://host/video?x=1", True),
        ("-", False),
    ],
)
def test_videos_are_known_by_name(source: str | int, expected: bool) -> None:
    assert is_video(source) == expected
