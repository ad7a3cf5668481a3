"""Odd values in COCO files: training, prediction and evaluation read the same people, or refuse the same record."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose import images
from featherpose.data.coco import read_coco
from featherpose.data.samples import labeled_samples
from featherpose.errors import DataError, FeatherposeError
from featherpose.evaluation.evaluate import evaluate
from featherpose.poses import Poses
from featherpose.runtime.given_boxes import GivenBoxes, read_boxes
from featherpose.runtime.sources import ImageFile
from featherpose.size import Size
from featherpose.skeleton import Skeleton
from tests.evaluation.folders import one_by_one

pytest.importorskip("faster_coco_eval")

SIZE = Size(height=60, width=80)
NAMES = ["a.png", "b.png"]
SKELETON = Skeleton.from_names("my", ["beak", "left_wing", "right_wing"])
CATEGORY = {"id": 1, "name": "bird", "keypoints": list(SKELETON.keypoint_names)}
FIRST = [10, 5, 30, 40]
SECOND = [20, 8, 25, 35]
KEYPOINTS = [12, 8, 2, 30, 40, 1, 0, 0, 0]
AROUND = [12 - 4.8, 8 - 4.8, 18 + 9.6, 32 + 9.6]
"""The box around `KEYPOINTS`."""

People = dict[str, list[list[float]]]
"""Boxes left, top, width, height by the name of the image."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two images."""
    place = tmp_path_factory.mktemp("odd")
    for name in NAMES:
        images.write(place / name, np.full((*SIZE.shape, 3), 128, np.uint8))
    return place


def image(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": number, "file_name": NAMES[number - 1], **SIZE.to_dict(), **changes}


def bird(number: int, **changes: Any) -> dict[str, Any]:
    box = FIRST if number == 1 else SECOND
    person = {"id": number, "image_id": number, "category_id": 1, "bbox": box, "keypoints": KEYPOINTS}
    return {**person, "area": 600, "iscrowd": 0, **changes}


def document(*birds: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"images": [image(1), image(2)], "annotations": list(birds), "categories": [CATEGORY], **changes}


def for_training(file: Path) -> People:
    found: People = {}
    for sample in labeled_samples(file)[0]:
        region = sample.location.region
        assert region is not None
        origin = [region.left, region.top, 0, 0]
        found.setdefault(sample.image, []).append((sample.box_xywh + np.float32(origin)).tolist())
    return found


def for_prediction(file: Path) -> People:
    known = read_boxes(file)
    image_files = [ImageFile(file.parent / image.name, image.name) for image in known.images]
    boxes_of = GivenBoxes(known, image_files)
    pixels = np.zeros((*SIZE.shape, 3), np.uint8)
    found = {image_file.name: boxes_of(image_file, pixels)[0] for image_file in image_files}
    return {name: _xywh(boxes) for name, boxes in found.items() if len(boxes)}


def for_evaluation(file: Path) -> People:
    asked: list[np.ndarray] = []

    def predict(_: np.ndarray, boxes: np.ndarray) -> Poses:
        asked.append(boxes)
        number = len(boxes)
        return Poses(np.zeros((number, 3, 2)), np.ones((number, 3)), boxes, np.ones(number), SKELETON, SIZE)

    dataset = read_coco(file)
    evaluate(dataset, one_by_one(predict))
    names = [record.name for record in dataset.labels.images]
    used = sorted({person.image for person in dataset.labels.usable()[0]})
    return {names[index]: _xywh(boxes) for index, boxes in zip(used, asked, strict=True)}


READERS: dict[str, Callable[[Path], People]] = {
    "training": for_training,
    "prediction": for_prediction,
    "evaluation": for_evaluation,
}


def _xywh(boxes_xyxy: np.ndarray) -> list[list[float]]:
    return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes_xyxy.tolist()]


BOTH: People = {"a.png": [FIRST], "b.png": [SECOND]}
LONE: People = {"b.png": [SECOND]}
READ: dict[str, tuple[dict[str, Any], People]] = {
    "plain": (document(bird(1), bird(2)), BOTH),
    **{
        f"crowd {value!r}": (document(bird(1, iscrowd=value), bird(2)), BOTH)
        for value in (None, "", "0", 0.0, "false", "False", False, "no")
    },
    **{
        f"crowd {value!r}": (document(bird(1, iscrowd=value), bird(2)), LONE)
        for value in (1, 1.0, "1", True, "true", "Yes")
    },
    **{f"area {value!r}": (document(bird(1, area=value), bird(2)), BOTH) for value in (None, "", 0, 0.0, "0", "600.5")},
    **{
        f"box {value!r}": (document(bird(1, bbox=value), bird(2)), BOTH)
        for value in (
            [FIRST],
            [str(number) for number in FIRST],
            [" 10 ", "5.0", 30, 4e1],
            {"x": 10, "y": 5, "width": 30, "height": 40},
            {"left": 10, "top": 5, "width": 30, "height": 40},
        )
    },
    **{
        f"box {value!r} from keypoints": (document(bird(1, bbox=value), bird(2)), {**BOTH, "a.png": [AROUND]})
        for value in (None, [], "", [0, 0, 0, 0], ["0"] * 4, [12, 8, 18, 0], {})
    },
    "ids as text": (document(bird(1, image_id="1", category_id="1"), bird(2)), BOTH),
    "ids as floats": (document(bird(1, image_id=1.0, category_id=1.0, id="x"), bird(2)), BOTH),
    "ids of images as text": (document(bird(1), bird(2), images=[image(1, id="1"), image(2, id="2")]), BOTH),
    "image by its file name": (document(bird(1, image_id="a.png"), bird(2)), BOTH),
    "category by its name": (document(bird(1, category_id="bird"), bird(2)), BOTH),
    "category listed twice": (document(bird(1), bird(2), categories=[CATEGORY, CATEGORY]), BOTH),
    "limbs counted from 0": (document(bird(1), bird(2), categories=[{**CATEGORY, "skeleton": [[0, 1], [0, 2]]}]), BOTH),
    "category 0": (
        document(bird(1, category_id=0), bird(2, category_id=0), categories=[{**CATEGORY, "id": 0}]),
        BOTH,
    ),
    "nested keypoints": (document(bird(1, keypoints=[[12, 8, 2], [30, 40, 1], [0, 0, 0]]), bird(2)), BOTH),
    "keypoints as objects": (
        document(bird(1, keypoints=[{"x": x, "y": y, "v": v} for x, y, v in np.reshape(KEYPOINTS, (-1, 3)).tolist()])),
        {"a.png": [FIRST]},
    ),
    "keypoints as text": (document(bird(1, keypoints=[str(number) for number in KEYPOINTS]), bird(2)), BOTH),
    "keypoint not labeled": (document(bird(1, keypoints=[*KEYPOINTS[:6], None, None, None]), bird(2)), BOTH),
    "nan not labeled": (document(bird(1, keypoints=[*KEYPOINTS[:6], float("nan"), 0, 0]), bird(2)), BOTH),
    "the same record twice": (document(bird(1), bird(2), bird(1, id=7)), BOTH),
    "image that is not listed": (document(bird(1), bird(2), bird(1, image_id=9)), BOTH),
    "category that is not listed": (document(bird(1), bird(2), bird(1, category_id=9)), BOTH),
    "no ids of persons": (document(bird(1, id=None), bird(2, id=None)), BOTH),
    "two records of one image": (
        document(bird(1), bird(2), images=[image(1), image(2, file_name="a.png")]),
        {"a.png": [FIRST, SECOND]},
    ),
    "size as text": (document(bird(1), bird(2), images=[image(1, width="80"), image(2, height=60.0)]), BOTH),
    "size in an object": (
        document(
            bird(1),
            bird(2),
            images=[image(1, width=None, height=None, size=SIZE.to_dict()), image(2)],
        ),
        BOTH,
    ),
    "no size": (document(bird(1), bird(2), images=[image(1, width=None, height=0), image(2, height="")]), BOTH),
    "other category with other keypoints": (
        document(
            bird(1),
            bird(2),
            {"id": 3, "image_id": 1, "category_id": 2, "bbox": "here", "keypoints": [1, 2], "iscrowd": "?"},
            categories=[CATEGORY, {"id": 2, "name": "nest"}],
        ),
        BOTH,
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("content", "people"), READ.values(), ids=READ)
def test_odd_values_are_read_as_meant(folder: Path, content: dict[str, Any], people: People, reader: str) -> None:
    (folder / "my.json").write_text(json.dumps(content))
    found = READERS[reader](folder / "my.json")
    assert found.keys() == people.keys()
    for name, boxes in people.items():
        np.testing.assert_allclose(found[name], boxes, atol=1e-4)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_is_skipped(folder: Path, encoding: str) -> None:
    (folder / "my.json").write_text(json.dumps(document(bird(1), bird(2))), encoding=encoding)
    assert [read(folder / "my.json") for read in READERS.values()] == [BOTH] * 3


AT = "annotations[0] (id 1): "
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "crowd 2": (document(bird(1, iscrowd=2)), AT + "iscrowd is 2, wanted 0 or 1"),
    "crowd unclear": (document(bird(1, iscrowd="maybe")), AT + "iscrowd is 'maybe'"),
    "box of three": (document(bird(1, bbox=[1, 2, 3])), AT + "bbox is [1, 2, 3], wanted four numbers"),
    "box of flags": (document(bird(1, bbox=[True, 2, 3, 4])), AT + "bbox contains True"),
    "box with a comma": (document(bird(1, bbox=["1,5", 2, 3, 4])), AT + "bbox contains '1,5'"),
    "box of infinity": (document(bird(1, bbox=[1, 2, 3, float("inf")])), AT + "bbox contains inf"),
    "two corners": (document(bird(1, bbox=[[1, 2], [3, 4]])), AT + "bbox is [[1, 2], [3, 4]]"),
    "number beyond float32": (document(bird(1, bbox=[1, 2, 3, 1e31])), AT + "bbox contains 1e+31"),
    "ids of no image": (document(bird(1, image_id=8)), "of an image that is listed: their image_id is 8, the ids in"),
    "visibility is a flag": (document(bird(1, keypoints=[1, 1, True] * 3)), AT + "keypoints (v) contains True"),
    "area below zero": (document(bird(1, area="-3")), AT + "area is -3"),
    "image in a list": (document(bird(1, image_id=[1])), "annotations[0].image_id is [1]"),
    "image not given": (document(bird(1, image_id="")), "annotations[0].image_id is ''"),
    "category not given": (document(bird(1), bird(2, category_id=None)), "annotations[1] has no category_id"),
    "file name a number": (document(bird(1), images=[image(1, file_name=5)]), "images[0].file_name is 5, wanted a"),
    "visibility 3": (document(bird(1, keypoints=[1, 1, 3] * 3)), AT + "keypoints is [1, 1, 3, 1, 1, 3, 1, 1, 3]"),
    "half a size": (document(bird(1), images=[image(1, width=80.5)]), "images[0].width is 80.5"),
    "record is a number": (document(7), "annotations[0] is 7, wanted an object"),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_unclear_values_are_refused(folder: Path, content: dict[str, Any], message: str, reader: str) -> None:
    (folder / "my.json").write_text(json.dumps(content))
    with pytest.raises(FeatherposeError, match=re.escape(message)) as caught:
        READERS[reader](folder / "my.json")
    assert str(caught.value).startswith(str(folder / "my.json"))


@pytest.mark.parametrize("reader", ["training", "evaluation"])
def test_nobody_used_is_an_error_with_counts(folder: Path, reader: str) -> None:
    unlabeled = bird(2, keypoints=[0] * 9)
    (folder / "my.json").write_text(json.dumps(document(bird(1, iscrowd=1), unlabeled)))
    with pytest.raises(DataError, match=r"0 of 2 annotations of my .* used; left out: 1 crowd regions \(first annota"):
        READERS[reader](folder / "my.json")


def numbers(value: float) -> st.SearchStrategy[Any]:
    """A number -> the ways to write it."""
    return st.sampled_from([value, float(value), str(value), f" {float(value)}"])


NO = st.sampled_from([None, "", 0, "0", False, "false", 0.0])
YES = st.sampled_from([1, "1", True, "True", 1.0])


@st.composite
def odd_documents(draw: st.DrawFn) -> tuple[dict[str, Any], People]:
    """A document with odd but legal values, and the people in it."""
    annotations: list[dict[str, Any]] = []
    people: People = {}
    lefts = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True))
    for number, left in enumerate(lefts):
        width = draw(st.integers(10, 40))
        where = draw(st.integers(0, 1))
        is_crowd = draw(st.booleans()) and number > 0
        box = [draw(numbers(value)) for value in (left, 5, width, 40)]
        keypoints = [(left + 1, 8, 2), (left + 9, 40, 1), (0, 0, 0)]
        points = [[draw(numbers(value)) for value in point] for point in keypoints]
        record = {
            "image_id": draw(st.sampled_from([where + 1, str(where + 1), float(where + 1), NAMES[where]])),
            "category_id": draw(st.sampled_from([1, "1", 1.0])),
            "bbox": draw(st.sampled_from([box, [box], dict(zip(("x", "y", "width", "height"), box, strict=True))])),
            "keypoints": draw(st.sampled_from([points, list(itertools.chain(*points))])),
            "iscrowd": draw(YES if is_crowd else NO),
            "area": draw(st.sampled_from([None, "", 0, "600", 600.0])),
        }
        optional = draw(st.sets(st.sampled_from(["area", *(() if is_crowd else ("iscrowd",))])))
        annotations.append({key: value for key, value in record.items() if key not in optional})
        if not is_crowd:
            people.setdefault(NAMES[where], []).append([left, 5, width, 40])
    return document(*annotations), people


@settings(max_examples=40, deadline=None)
@given(case=odd_documents())
def test_random_odd_documents_give_the_same_people(case: tuple[dict[str, Any], People], folder: Path) -> None:
    content, people = case
    (folder / "my.json").write_text(json.dumps(content))
    for read in READERS.values():
        assert read(folder / "my.json") == people
