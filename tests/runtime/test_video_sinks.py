"""Video files and files with poses that are written frame by frame."""

import csv
import json
import os
import resource
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.formats import jsonl, tidy_csv
from featherpose.poses import Poses
from featherpose.runtime.video_sinks import DrawnVideo, JsonLines, Table, frame_name
from featherpose.runtime.video_sources import Frame, open_video
from featherpose.skeleton import COCO17
from tests.runtime.test_tracker import SIZE, people
from tests.runtime.test_video_sources import frame

FFMPEG = """#!/usr/bin/env python3
# Stand-in for ffmpeg: lists libx264, or writes the arguments and the number of bytes on stdin into the last argument.
import sys
if "-encoders" in sys.argv:
    print("V..... libx264")
elif {fails}:
    sys.exit("No space left on device")
else:
    received = len(sys.stdin.buffer.read())
    open(sys.argv[-1], "w").write(" ".join([*sys.argv[1:], str(received)]))
"""


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def put_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(fails=fails))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("without_ffmpeg")
def test_without_ffmpeg_mp4v_is_written_and_said(tmp_path: Path) -> None:
    sink = DrawnVideo(tmp_path / "a.mp4", 20)
    for index in range(6):
        sink.write(frame(index), index / 20)
    assert not (tmp_path / "a.mp4").exists()
    sink.close()
    video = open_video(tmp_path / "a.mp4")
    assert video.rate == 20 and video.notes == [] and len(list(video)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert len(sink.notes) == 1 and "written as mp4v without sound, because there is no ffmpeg" in sink.notes[0]


@pytest.mark.usefixtures("without_ffmpeg")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (47, 63), (96, 64), (24, 200)])
def test_frames_of_another_size_are_fitted(height: int, width: int, tmp_path: Path) -> None:
    sink = DrawnVideo(tmp_path / "a.mp4", 20)
    for index in range(4):
        sink.write(frame(0) if index < 2 else np.full((height, width, 3), 200, np.uint8), index / 20)
    sink.close()
    shown = [found.image for found in open_video(tmp_path / "a.mp4")]
    assert {image.shape for image in shown} == {(48, 64, 3)} and shown[3][24, 32].mean() > 150
    assert len(sink.notes) == 2 and f"the frames change to {height}x{width}" in sink.notes[1]


@pytest.mark.usefixtures("without_ffmpeg")
def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    sink = DrawnVideo(tmp_path / "a.mp4", 20)
    sink.write(np.full((35, 51, 3), 200, np.uint8), 0)
    sink.close()
    assert next(iter(open_video(tmp_path / "a.mp4"))).image.shape == (36, 52, 3)


@pytest.mark.usefixtures("without_ffmpeg")
def test_live_video_is_as_fast_as_what_it_shows(tmp_path: Path) -> None:
    sink = DrawnVideo(tmp_path / "a.mp4", 10, is_live=True)
    for timestamp in (0.0, 0.01, 0.02, 0.5, 0.6):
        sink.write(frame(0), timestamp)
    sink.close()
    assert len(list(open_video(tmp_path / "a.mp4"))) == 7


@pytest.mark.usefixtures("without_ffmpeg")
def test_no_frame_gives_no_file(tmp_path: Path) -> None:
    DrawnVideo(tmp_path / "a.mp4", 20).close()
    assert list(tmp_path.iterdir()) == []


def test_ffmpeg_gets_frames_rate_and_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_ffmpeg(tmp_path, monkeypatch)
    sink = DrawnVideo(tmp_path / "a.mp4", 29.97, audio_from=tmp_path / "phone.mov")
    for index in range(3):
        sink.write(frame(index), index / 30)
    sink.close()
    words = (tmp_path / "a.mp4").read_text()
    assert sink.notes == [] and words.endswith(f".a.part.mp4 {3 * 48 * 64 * 3 // 2}")
    assert "-pix_fmt yuv420p -s 64x48 -r 29.97 " in words and f"-i {tmp_path}/phone.mov -map 0:v -map 1:a?" in words


def test_ffmpeg_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_ffmpeg(tmp_path, monkeypatch, fails=True)
    sink = DrawnVideo(tmp_path / "a.mp4", 25)
    with pytest.raises(InputError, match=r"ffmpeg stopped \(No space left on device\)"):
        for index in range(200):
            sink.write(frame(0), index / 25)
    with pytest.raises(InputError, match="ffmpeg stopped"):
        sink.close()
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.usefixtures("without_ffmpeg")
def test_full_disk_is_said_and_leaves_no_broken_video(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    sink = DrawnVideo(tmp_path / "a.mp4", 25)
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3)).astype(np.uint8)
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    try:
        for index, image in enumerate(noise):
            sink.write(image, index / 25)
        with pytest.raises(InputError, match=r"a\.mp4: the video could not be written to its end\. Is the disk full"):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: DrawnVideo(path, 25), lambda path: Table(path, "clip.mp4")])
def test_unwritable_output_is_refused_at_once(make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        make(tmp_path / "file" / "out")


def some_frames() -> list[tuple[Frame, Poses]]:
    """Nobody, then two tracked persons; of one, a keypoint was filled in."""
    flags = np.zeros((2, 17), bool)
    flags[1, 4] = True
    two = replace(people((100, 200), (300, 200)), ids=np.array([1, 5]), interpolated=flags)
    pixels = np.zeros((*SIZE.shape, 3), np.uint8)
    return [(Frame(pixels, 7, 0.28), people()), (Frame(pixels, 8, 0.3200001), two)]


def test_json_lines_have_frame_and_timestamp(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "a.jsonl", "clip.mp4", COCO17, "tiny")
    for shown, poses in some_frames():
        sink.write(shown, poses)
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()[1:]]
    assert [(line["image"], line["frame"], line["timestamp"]) for line in lines] == [
        ("clip.mp4/000007", 7, 0.28),
        ("clip.mp4/000008", 8, 0.32),
    ]
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs/poses.schema.json").read_text())
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/image", "$defs": schema["$defs"]})
    assert [list(validator.iter_errors(line)) for line in lines] == [[], []]
    read = jsonl.read_file(tmp_path / "a.jsonl")["clip.mp4/000008"]
    before = some_frames()[1][1]
    assert np.array_equal(read.ids, before.ids) and np.array_equal(read.interpolated, before.interpolated)


def test_table_has_frame_timestamp_and_ids(tmp_path: Path) -> None:
    sink = Table(tmp_path / tidy_csv.FILE, "clip.mp4")
    for shown, poses in some_frames():
        sink.write(shown, poses)
    sink.close()
    with (tmp_path / tidy_csv.FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34 and {(row["frame"], row["timestamp"]) for row in rows} == {("8", "0.3200")}
    assert [row["id"] for row in rows] == ["1"] * 17 + ["5"] * 17
    assert [index for index, row in enumerate(rows) if row["interpolated"] == "1"] == [17 + 4]
    sizes = {frame_name("clip.mp4", index): SIZE for index in (7, 8)}
    read = tidy_csv.read(tmp_path, COCO17, sizes)
    assert [len(poses) for poses in read.values()] == [0, 2]
