"""Checks of meaning: each finds its mistake and nothing else, from its share of the persons on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.data.coco import read_coco
from featherpose.data.dataset import Dataset
from featherpose.errors import DataError, InputError
from featherpose.meaning import CHECKS, size_difference, warnings_about
from featherpose.records import ImageRecord, PersonRecord
from featherpose.size import Size

SIZE = Size(height=480, width=640)
IMAGES = [ImageRecord("a.jpg", 1, SIZE, "images[0]"), ImageRecord("b.jpg", 2, None, "images[1]")]
BOX = (100.0, 80.0, 200.0, 300.0)
KEYPOINTS = ((150.0, 120.0, 2), (0.0, 0.0, 0), (180.0, 300.0, 1))


def person(number: int = 0, box: Any = BOX, keypoints: Any = KEYPOINTS, image: int = 0) -> PersonRecord:
    return PersonRecord(
        image=image,
        id=number,
        category=1,
        crowd=False,
        area=None,
        box_xywh=None if box is None else np.array(box, np.float32),
        keypoints=None if keypoints is None else np.array(keypoints, np.float32),
        score=None,
        place=f"annotations[{number}]",
    )


def test_nobody_gives_no_warning() -> None:
    assert warnings_about([], [], strict=True) == []
    assert warnings_about(IMAGES, [person(box=None, keypoints=None)], strict=True) == []


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "right": ({}, []),
    "size of the image not known": ({"image": 1}, []),
    "box at the edge": ({"box": (0, 0, 640, 480)}, []),
    "box a little beyond the image": ({"box": (500, 80, 145, 300), "keypoints": None}, []),
    "one keypoint at the center of the first pixel, not labeled": ({"keypoints": [(0, 0, 0), (150, 120, 2)]}, []),
    "box from 0 to 1": ({"box": (0.1, 0.2, 0.5, 0.7), "keypoints": None}, ["normalized boxes", "tiny boxes"]),
    "keypoints from 0 to 1": ({"keypoints": [(0.1, 0.2, 2), (0.5, 0.5, 1)], "box": None}, ["normalized keypoints"]),
    "other corner": ({"box": (300, 200, 500, 470), "keypoints": None}, ["corners as sizes"]),
    "percent": (
        {"box": (20, 10, 30, 80), "keypoints": [(25, 20, 2), (40, 85, 1)]},
        ["percent"],
    ),
    "center": (
        {"box": (200, 230, 200, 300), "keypoints": [(110, 100, 2), (280, 120, 2), (200, 350, 1)]},
        ["centers as corners"],
    ),
    "labeled at (-1, -1)": ({"box": (0, 0, 300, 400), "keypoints": [(-1, -1, 2), (9, 9, 1)]}, ["at the origin"]),
    "labeled at the origin": ({"box": (0, 0, 300, 400), "keypoints": [(0, 0, 2), (9, 9, 1)]}, ["at the origin"]),
    "keypoint of somebody else": ({"keypoints": [(150, 120, 2), (610, 120, 2)]}, ["far from the box"]),
    "one place": ({"keypoints": [(150, 120, 2)] * 3}, ["in one place"]),
    "a click": ({"box": (150, 120, 1, 1), "keypoints": None}, ["tiny boxes"]),
    "ten images": ({"box": (0, 0, 7000, 300), "keypoints": None}, ["huge boxes"]),
}


@pytest.mark.parametrize(("changes", "names"), WRONG.values(), ids=WRONG)
def test_check_finds_its_mistake_alone(changes: dict[str, Any], names: list[str]) -> None:
    sentences = {check.name: check.sentence for check in CHECKS}
    found = warnings_about(IMAGES, [person(number, **changes) for number in range(3)])
    assert found == [f"3 of 3 {sentences[name]} (first annotations[0], {_image(changes)})." for name in names]
    if names:
        with pytest.raises(InputError, match="leave out --strict"):
            warnings_about(IMAGES, [person(number, **changes) for number in range(3)], strict=True)


def _image(changes: dict[str, Any]) -> str:
    return IMAGES[changes.get("image", 0)].name


def test_every_check_has_a_row() -> None:
    assert {name for _, names in WRONG.values() for name in names} == {check.name for check in CHECKS}


@pytest.mark.parametrize(
    ("count", "wrong", "warns"),
    [(1, 1, True), (2, 1, False), (5, 2, False), (5, 3, True), (99, 2, False), (99, 3, True), (400, 1, False),
     (400, 2, True), (1000, 4, False), (1000, 5, True)],
)  # fmt: skip
def test_share_that_warns(count: int, wrong: int, warns: bool) -> None:
    tiny = [person(number, box=(150, 120, 1, 1), keypoints=None) for number in range(wrong)]
    right = [person(number, keypoints=None) for number in range(wrong, count)]
    assert bool(warnings_about(IMAGES, [*tiny, *right])) == warns


def test_corners_warn_where_most_boxes_are_wrong() -> None:
    wrong = [person(number, box=(300, 200, 500, 470), keypoints=None) for number in range(200)]
    right = [person(number, keypoints=None) for number in range(200)]
    assert len(warnings_about(IMAGES, [*wrong, *right])) == 1
    assert warnings_about(IMAGES, [*wrong[:-1], *right, person()]) == []


def test_real_labels_give_no_warning(shared: Path) -> None:
    coco = read_coco(shared / "data/coco-test")
    assert coco.warnings(strict=True) == []
    assert coco.labels.counts.assumed == ()


def test_strict_reading_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x", "keypoints": ["tip", "end"]}]}'
    )
    empty = read_coco(tmp_path / "a.json").labels
    labels = replace(empty, images=tuple(IMAGES), persons=(person(box=(0.1, 0.2, 0.5, 0.7)),))
    with pytest.raises(DataError, match=r"^a: 1 of 1 boxes are between 0 and 1.*Correct the file"):
        Dataset(labels, tmp_path).warnings(strict=True)


def test_exchanged_sides_name_the_reason() -> None:
    assert "EXIF" in size_difference("a.jpg", SIZE, Size(height=640, width=480))
    assert "EXIF" not in size_difference("a.jpg", SIZE, Size(height=640, width=640))
