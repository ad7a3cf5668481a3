"""`predict` and `stream` on clips, with stand-in models: a red square is a person."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import featherpose
from featherpose import images
from featherpose.cli.predict import predict
from featherpose.errors import InputError
from featherpose.formats import jsonl
from featherpose.runtime.video_sources import open_video
from tests.runtime.test_video_sources import frame, write_clip
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

pytest.importorskip("onnx")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Options of both models; the current folder is an empty one, without ffmpeg."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    tiny_model(tmp_path / "tiny.onnx")
    tiny_image_model(tmp_path / "detector.onnx", tiny_image_manifest("detector", long_side=96))
    return {"model": "tiny.onnx", "detector": "detector.onnx", "device": "cpu"}


def person_clip(path: Path, num_frames: int = 20) -> Path:
    """A red square of 32 x 32 pixels, which the detector finds."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 96))
    image = np.zeros((96, 64, 3), np.uint8)
    image[32:64, 0:32, 2] = 255
    for _ in range(num_frames):
        writer.write(image)
    writer.release()
    return path


def run(*words: str, options: dict[str, str]):
    return CliRunner().invoke(predict, [*words, *(f"--{name}={value}" for name, value in options.items())])


def test_clip_gives_video_json_lines_and_table(models: dict[str, str], tmp_path: Path) -> None:
    person_clip(tmp_path / "clip.mp4")
    result = run("clip.mp4", "--save", "csv", "--draw-ids", options=models)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("clip.mp4: 1 person in 20 frames, ")
    assert result.stdout.rstrip().endswith("out/clip.mp4, out/clip.jsonl, out/clip.csv")
    assert "smoothing: file; people searched in" in result.stderr and "written as mp4v" in result.stderr
    drawn = open_video("out/clip.mp4")
    assert drawn.rate == 25 and len(list(drawn)) == 20
    poses = jsonl.read_file(tmp_path / "out/clip.jsonl")
    assert list(poses)[:2] == ["clip.mp4/000000", "clip.mp4/000001"] and len(poses) == 20
    assert all(found.ids is not None and found.ids.tolist() == [1] for found in poses.values())


def test_stream_gives_frames_and_poses(models: dict[str, str], tmp_path: Path) -> None:
    person_clip(tmp_path / "clip.mp4")
    before = threading.active_count()
    found = [(shown, poses) for shown, poses in featherpose.stream("clip.mp4", every=3, **models)]
    assert [shown.index for shown, _ in found] == list(range(20))
    assert found[5][0].timestamp == pytest.approx(0.2) and found[5][0].image.shape == (96, 64, 3)
    assert {tuple(poses.ids.tolist()) for _, poses in found if poses.ids is not None} == {(1,)}
    frames = featherpose.stream("clip.mp4", **models)
    next(frames)
    frames.close()
    assert threading.active_count() == before


def test_stream_without_a_detector(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(3):
        images.write(tmp_path / "frames" / f"{index}.png", frame(index))
    found = list(featherpose.stream("frames", whole_image=True, model="tiny.onnx", device="cpu", rate=5, smooth="off"))
    assert [(shown.timestamp, len(poses)) for shown, poses in found] == [(0, 1), (0.2, 1), (0.4, 1)]


def test_one_stage_model_runs_in_every_frame(models: dict[str, str], tmp_path: Path) -> None:
    tiny_image_model(tmp_path / "poses.onnx", tiny_image_manifest("poses", long_side=96))
    person_clip(tmp_path / "clip.mp4", 5)
    assert [len(poses) for _, poses in featherpose.stream("clip.mp4", model="poses.onnx", device="cpu")] == [1] * 5
    with pytest.raises(InputError, match="every is 4, but there is no detector"):
        next(featherpose.stream("clip.mp4", model="poses.onnx", device="cpu", every=4))


def test_images_and_videos_in_one_run(models: dict[str, str], tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", frame(0))
    person_clip(tmp_path / "clip.mp4", 4)
    (tmp_path / "clip.avi").write_bytes(b"no video")
    result = run("a.png", "clip.avi", "clip.mp4", options=models)
    assert result.exit_code == 1 and "1 of 3 sources failed" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "a.png",
        "clip.jsonl",
        "clip.mp4",
        "clip.summary.json",
        "poses.json",
    ]
    summary = json.loads((tmp_path / "out/clip.summary.json").read_text())
    assert (summary["video"], summary["frames"], summary["people"]) == ("clip.mp4", 4, 1)
    assert set(summary["seconds"]) >= {"reading", "poses", "tracking", "smoothing", "drawing", "writing"}


def test_folder_of_videos_lists_broken_ones_at_the_end(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "clips/day-2").mkdir(parents=True)
    person_clip(tmp_path / "clips/b.mp4", 3)
    person_clip(tmp_path / "clips/day-2/a.avi", 3)
    person_clip(tmp_path / "clips/.hidden.mp4", 3)
    (tmp_path / "clips/broken.mov").write_bytes(b"no video")
    (tmp_path / "clips/notes.txt").touch()
    result = run("clips", "--out", "clips/out", options=models)
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["b.mp4", "a.avi"]
    assert "1 of 3 sources failed:\n  clips/broken.mov: cannot be opened as a video" in result.stderr
    again = run("clips", "--out", "clips/out", options=models)
    assert "1 of 3 sources failed" in again.stderr  # the results are no sources


def test_pattern_matches_videos(models: dict[str, str], tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.avi"):
        person_clip(tmp_path / name, 2)
    result = run("*.mp4", options=models)
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["a.mp4", "b.mp4"]
    assert "none-*.mp4: no such file" in run("none-*.mp4", options=models).stderr


def test_videos_among_images_are_used_unless_options_are_for_images(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    images.write(tmp_path / "holiday/a.png", frame(0))
    person_clip(tmp_path / "holiday/clip.mp4", 2)
    result = run("holiday", options=models)
    assert result.exit_code == 0 and "1 image: keypoints" in result.stdout and "clip.mp4: 1 person" in result.stdout
    result = run("holiday", "--save", "yolo", "--out", "labels", options=models)
    assert result.exit_code == 0 and not (tmp_path / "labels/clip.mp4").exists()
    assert "Warning: Videos in the folders were left out (1). Poses in a video are saved as json" in result.stderr


def test_clips_of_one_name_do_not_overwrite_each_other(models: dict[str, str], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        person_clip(tmp_path / folder / "clip.mp4", 3)
    assert run("a/clip.mp4", "b/clip.mp4", options=models).exit_code == 0
    assert {path.name for path in (tmp_path / "out").glob("*.mp4")} == {"clip.mp4", "clip-2.mp4"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.mp4"], "1 of 1 sources failed:\n  none.mp4: no such file"),
        (["clip.mp4", "--out", "full", "--save", "csv"], "could not be written (No space left on device)"),
        (["clip.mp4", "--out", "."], "clip.mp4: the drawn video would overwrite the input"),
        (["clip.mp4", "--out", "clip.mp4/x"], "cannot be created"),
        (["clip.mp4", "--save", "coco"], "saved as json, jsonl, csv, not as coco"),
        (["clip.mp4", "--shard", "1/2"], "shard is for images, and there is a video"),
        (["clip.mp4", "--every", "often"], "'often' is not auto or a number"),
    ],
)
def test_what_cannot_be_done_is_refused(words: list[str], message: str, models: dict[str, str], tmp_path: Path) -> None:
    before = person_clip(tmp_path / "clip.mp4", 3).read_bytes()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "clip.csv").symlink_to("/dev/full")
    result = run(*words, options=models)
    assert result.exit_code in (1, 2) and message in result.output + str(result.exception)
    assert (tmp_path / "clip.mp4").read_bytes() == before


def test_truncated_clip_keeps_its_frames(models: dict[str, str], tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("clip.avi", options=models)
    assert result.exit_code == 0 and "the file may be truncated" in result.stderr
    num_drawn = len(list(open_video("out/clip.mp4")))
    assert 10 < num_drawn == len(jsonl.read_file(tmp_path / "out/clip.jsonl"))


INTERRUPTED = """
import sys
from featherpose.cli import main
sys.argv = ["featherpose", "predict", "clip.mp4", "--model", "tiny.onnx", "--detector", "detector.onnx", "--every", "1"]
main()
"""


def test_ctrl_c_leaves_complete_files(models: dict[str, str], tmp_path: Path) -> None:
    person_clip(tmp_path / "clip.mp4", 5000)
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = tmp_path / "out/clip.jsonl"
    while not lines.exists() or lines.stat().st_size < 100_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and b"interrupted: out/clip.mp4" in out, errors
    num_frames = len(lines.read_text().splitlines()) - 1
    assert 20 < num_frames < 5000
    assert json.loads(lines.read_text().splitlines()[-1])["frame"] == num_frames - 1
    assert len(list(open_video("out/clip.mp4"))) == num_frames
