"""The scripts in `examples/` on made clips, where the angles are known; of the faces, with the shipped model."""

import csv
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

import featherpose
from featherpose import examples, images
from featherpose.poses import Poses
from featherpose.runtime.video_sources import Frame, open_video
from featherpose.size import Size
from featherpose.skeleton import COCO17

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SIZE = Size(height=240, width=320)


def write_clip(path: Path, frames: list[np.ndarray], rate: float) -> str:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, frames[0].shape[1::-1])
    for image in frames:
        writer.write(image[..., ::-1].copy())
    writer.release()
    return str(path)


def run(name: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = [path for path in SCRIPTS if path.stem == name]
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")


def squatting(angle: float, other: float, score: float = 0.9) -> Poses:
    """Two people whose knees, left and right, have these angles; of the second the right ankle is not sure."""
    keypoints = np.zeros((2, 17, 2))
    scores = np.full((2, 17), score)
    for row, degrees in enumerate((angle, other)):
        for side in (0, 1):
            knee = np.array([60 + 100 * row + 30 * side, 120])
            keypoints[row, 11 + side] = knee - (0, 40)
            direction = np.radians(180 - degrees)
            keypoints[row, 13 + side] = knee
            keypoints[row, 15 + side] = knee + 40 * np.array([np.sin(direction), np.cos(direction)])
    scores[1, 16] = 0.1
    boxes = [[20, 20, 120, 220], [120, 20, 220, 220]]
    return Poses(keypoints, scores, boxes, [1, 1], COCO17, SIZE, np.array([4, 7]))


@pytest.fixture
def squats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A clip of 60 frames in which person 4 squats three times, and 7 trembles at 100 degrees; poses by a stand-in."""

    def stream(source: str, **options: object) -> Iterator[tuple[Frame, Poses]]:
        for frame in open_video(source):
            bent = 130 + 50 * np.cos(2 * np.pi * frame.index / 20)
            yield frame, squatting(bent, 100 + (-1) ** frame.index)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(featherpose, "stream", stream)
    return write_clip(tmp_path / "squats.mp4", [np.zeros((*SIZE.shape, 3), np.uint8)] * 60, 20)


def test_scripts_are_short_and_tested() -> None:
    assert [path.stem for path in SCRIPTS] == ["blur_faces", "count_repetitions", "knee_angles"]
    assert all(len(path.read_text().splitlines()) < 40 for path in SCRIPTS)


def test_repetitions_are_counted(
    squats: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("count_repetitions", squats, monkeypatch=monkeypatch)
    assert capsys.readouterr().out.splitlines() == [
        "0.85 s: person 4, repetition 1",
        "1.85 s: person 4, repetition 2",
        "2.85 s: person 4, repetition 3",
    ]


def test_knee_angles_go_into_table_and_plot(squats: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("knee_angles", squats, "knees", monkeypatch=monkeypatch)
    rows = list(csv.DictReader((tmp_path / "knees.csv").read_text().splitlines()))
    assert len(rows) == 120
    assert rows[0] == {"timestamp": "0.000", "id": "4", "left_knee": "180.0", "right_knee": "180.0"}
    assert rows[11] == {"timestamp": "0.250", "id": "7", "left_knee": "99.0", "right_knee": ""}
    assert rows[20] == {"timestamp": "0.500", "id": "4", "left_knee": "80.0", "right_knee": "80.0"}
    lines = ElementTree.parse(tmp_path / "knees.svg").getroot().findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [60, 60, 60]


def test_faces_are_blurred_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = images.read(examples.find("collins.jpg"))[:512:2, :384:2]
    clip = write_clip(tmp_path / "clip.mp4", [portrait] * 3, 10)
    run("blur_faces", clip, str(tmp_path / "blurred.mp4"), "--whole-image", monkeypatch=monkeypatch)
    before, after = (
        [frame.image.astype(int) for frame in open_video(path)] for path in (clip, tmp_path / "blurred.mp4")
    )
    assert len(before) == len(after) == 3
    change = np.abs(after[1] - before[1]).mean(axis=2)
    face = np.s_[40:65, 100:125]  # eyes and nose
    assert change[face].mean() > 15 and change[150:].mean() < 5
