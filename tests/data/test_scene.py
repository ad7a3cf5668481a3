"""Scenes: which boxes are people, which are ignored, which are left out; broken records are reported."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.data.scene import IGNORED, PERSON, Scene, read_scenes
from featherpose.errors import DataError
from featherpose.size import Size
from tests.data.conftest import write_shard

BOX = [10.0, 20.0, 30.0, 60.0]
KEYPOINTS = [[20 + i, 30 + i, i % 3] if i % 3 else [0, 0, 0] for i in range(17)]


def scene_record(key: str, *people: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **{"key": key, "image": f"{key}.jpg", "source": "own", "width": 120, "height": 90, "people": list(people)},
        **changes,
    }


def person(box_xywh: Any = BOX, **changes: Any) -> dict[str, Any]:
    return {"box_xywh": box_xywh, "iscrowd": 0, **changes}


def write(folder: Path, *records: dict[str, Any], name: str = "det-0000.tar") -> Path:
    """Records -> a folder with a shard of them; the images are not read."""
    folder.mkdir(exist_ok=True)
    files = [(f"{record['key']}.json", json.dumps(record).encode()) for record in records]
    write_shard(folder / name, [*files, *((f"{record['key']}.webp", b"RIFF") for record in records)])
    return folder


def read_one(folder: Path, *people: dict[str, Any], **changes: Any) -> Scene:
    scenes, _ = read_scenes([write(folder, scene_record("a", *people, **changes))])
    return scenes[0]


def test_scene_without_people_is_background(tmp_path: Path) -> None:
    scene = read_one(tmp_path)
    assert [scene.boxes_xywh.shape, scene.kinds.shape, scene.areas.shape] == [(0, 4), (0,), (0,)]
    assert [scene.keypoints.shape, scene.visibility.shape] == [(0, 17, 2), (0, 17)]
    assert scene.negative_weight == 1


def test_scene_equals_its_record(tmp_path: Path) -> None:
    people = person(area=500.0, keypoints=KEYPOINTS), person([0, 0, 10, 20])
    scene = read_one(tmp_path, *people, split="val2017", scale=0.65)
    assert (scene.key, scene.image, scene.source, scene.split) == ("a", "a.jpg", "own", "val2017")
    assert (scene.size, scene.scale) == (Size(height=90, width=120), 0.65)
    assert scene.boxes_xywh.tolist() == [BOX, [0, 0, 10, 20]]
    assert scene.areas.tolist() == pytest.approx([500, 0.53 * 200])
    assert np.array_equal(np.dstack([scene.keypoints, scene.visibility])[0], KEYPOINTS)
    assert not scene.visibility[1].any()
    dtypes = (scene.boxes_xywh.dtype, scene.kinds.dtype, scene.keypoints.dtype, scene.visibility.dtype)
    assert dtypes == (np.float32, np.int8, np.float32, np.uint8)
    assert scene.areas.dtype == np.float32


ENTRIES = [
    ("person", person(), (PERSON, BOX)),
    ("without iscrowd", {"box_xywh": BOX}, (PERSON, BOX)),
    ("crowd region", person(iscrowd=1), (IGNORED, BOX)),
    ("label of a human", person(label="human"), (PERSON, BOX)),
    ("sure teacher", person(label="teacher", score=0.45), (PERSON, BOX)),
    ("unsure teacher", person(label="teacher", score=0.449), (IGNORED, BOX)),
    ("least score of a teacher", person(label="teacher", score=0.2), (IGNORED, BOX)),
    ("too low a score", person(label="teacher", score=0.19), "1 boxes of the teacher with a score below 0.2"),
    ("partly outside", person([-10, 70, 30, 40]), (PERSON, [0, 70, 20, 20])),
    ("outside", person([130, 10, 20, 20]), "1 boxes without area inside the image"),
    ("above the image", person([10, -30, 20, 20]), "1 boxes without area inside the image"),
    ("no width", person([10, 10, 0, 20]), "1 boxes without area inside the image"),
    ("negative height", person([10, 10, 20, -5]), "1 boxes without area inside the image"),
]


@pytest.mark.parametrize(("entry", "expected"), [row[1:] for row in ENTRIES], ids=[row[0] for row in ENTRIES])
def test_box_is_person_ignored_or_left_out(entry: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    (scene,), notes = read_scenes([write(tmp_path, scene_record("a", entry))])
    if isinstance(expected, str):
        assert len(scene.kinds) == 0
        assert notes[1:] == [f"Left out: {expected}."]
    else:
        assert (scene.kinds[0], scene.boxes_xywh[0].tolist()) == expected
        assert notes[1:] == []


def test_teacher_threshold_decides_who_is_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path, scene_record("a", person(label="teacher", score=0.5)))
    kinds = [read_scenes([folder], threshold)[0][0].kinds.item() for threshold in (0.5, 0.51)]
    assert kinds == [PERSON, IGNORED]


NEGATIVES = [
    ("nobody", 0, "train2017", 1),
    ("ten people", 10, "train2017", 1),
    ("forty people", 40, "train2017", 0.25),
    ("crowds are marked", 40, "val2017", 1),
    ("split not known", 40, None, 1),
]


@pytest.mark.parametrize(
    ("count", "split", "expected"), [row[1:] for row in NEGATIVES], ids=[row[0] for row in NEGATIVES]
)
def test_unmarked_crowds_lower_negative_weight(count: int, split: str | None, expected: float, tmp_path: Path) -> None:
    unlabeled = person(label="teacher", score=0.3)  # does not count
    assert read_one(tmp_path, *[person()] * count, unlabeled, split=split).negative_weight == expected


BROKEN = [
    ({"people": None}, "people is None, wanted a list of people"),
    ({"people": [{"iscrowd": 0}]}, "people[0]: its record lacks 'box_xywh'"),
    ({"people": [person([1, 2, 3])]}, "people[0]: box_xywh is [1, 2, 3], wanted four numbers"),
    ({"people": [person([1, 2, 3, float("nan")])]}, "people[0]: box_xywh contains nan"),
    ({"people": [person(keypoints=[[0, 0, 2]] * 16)]}, "people[0]: keypoints: 48 numbers"),
    ({"people": [person(label="teacher")]}, "its record lacks 'score'"),
    ({"people": [person([10, 10, 0, 20]), person("x")]}, "people[1]: box_xywh is 'x'"),
    ({"height": 0}, "height is 0"),
    ({"image": None, "source": None, "scale": None}, "image is None, wanted a name"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_broken_scene_is_reported_and_left_out(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    records = [scene_record("a"), scene_record("b", person()) | change, scene_record("c")]
    scenes, notes = read_scenes([write(tmp_path, *records)])
    assert [scene.key for scene in scenes] == ["a", "c"]
    assert len(notes) == 2
    assert notes[1].startswith("1 broken scenes left out, first: det-0000.tar: b: ")
    assert message in notes[1]


def test_labels_that_look_wrong_are_said_or_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "det", *(scene_record(key, person([0.1, 0.2, 0.5, 0.7])) for key in "abc"))
    _, notes = read_scenes([folder])
    assert notes[1].startswith("Warning: 3 of 3 boxes are between 0 and 1: parts of the image in place of pixels?")
    with pytest.raises(DataError, match=r"^det: 3 of 3 boxes are between 0 and 1.*leave out --strict"):
        read_scenes([folder], strict=True)


def test_folders_are_read_in_the_order_of_keys(tmp_path: Path) -> None:
    one = write(tmp_path / "one", scene_record("d"), scene_record("b"))
    two = write(tmp_path / "two", scene_record("c"), scene_record("b"), name="detx-0000.tar")
    scenes, notes = read_scenes([one, two])
    assert [scene.key for scene in scenes] == ["b", "c", "d"]
    assert scenes[0].location.path.name == "det-0000.tar"
    assert notes == [
        "3 images, 3 of them without people: 0 people, 0 with keypoints, and 0 boxes to ignore.",
        "1 broken scenes left out, first: detx-0000.tar: b: duplicate key, already found in det-0000.tar",
    ]
    with pytest.raises(DataError, match="is not a folder"):
        read_scenes([one, tmp_path / "three"])


def test_real_scenes_are_read_whole(shared: Path) -> None:
    folders = [shared / "data/detector-train", shared / "data/detector-extra"]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip(f"no {folders[0].name} and {folders[1].name} in {shared / 'data'}")
    scenes, notes = read_scenes(folders, strict=True)
    assert notes == [
        "3687 images, 411 of them without people: 12077 people, 6182 with keypoints, and 3308 boxes to ignore."
    ]
    assert Counter(scene.source for scene in scenes) == {"coco": 2963, "voc2012": 724}
    assert sum(scene.negative_weight < 1 for scene in scenes) > 50
    assert max(max(scene.size.shape) for scene in scenes) == 416
