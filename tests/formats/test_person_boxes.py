import json

import pytest

from featherpose.errors import InputError
from featherpose.formats.person_boxes import from_json, read
from featherpose.records import Tally

PLAIN = {"a.jpg": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "sub/b.jpg": [], "000000000785.jpg": [[0, 0, 9, 9]]}
ANNOTATIONS = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 99, 99], "iscrowd": 1},
        {"image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 9]},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}
DETECTIONS = [
    {"image_id": 785, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.75},
    {"image_id": 785, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.99},
    {"image_id": "a", "bbox": [0, 0, 5, 5]},
]


@pytest.mark.parametrize(
    ("values", "name", "boxes", "scores"),
    [
        pytest.param(PLAIN, "a.jpg", PLAIN["a.jpg"], [1, 1], id="plain"),
        pytest.param(PLAIN, "sub/b.jpg", [], [], id="plain, no person"),
        pytest.param(PLAIN, "holiday/a.jpg", PLAIN["a.jpg"], [1, 1], id="plain, by file name"),
        pytest.param(PLAIN, "sub/B.JPG", [], [], id="plain, in another case"),
        pytest.param({"e\u0301.jpg": [[1, 2, 3, 4]]}, "\xe9.jpg", [[1, 2, 3, 4]], [1], id="plain, decomposed letter"),
        pytest.param(ANNOTATIONS, "a.jpg", [[1, 2, 4, 6]], [1], id="annotations: no crowd, no dog"),
        pytest.param(ANNOTATIONS, "b.jpg", [], [], id="annotations, no person"),
        pytest.param(DETECTIONS, "000000000785.jpg", [[1, 2, 4, 6]], [0.75], id="detections, by image id: no dog"),
        pytest.param(DETECTIONS, "x/a.png", [[0, 0, 5, 5]], [1], id="detections, by stem"),
        pytest.param(DETECTIONS, "other.jpg", [], [], id="detections: image without entry is empty"),
        pytest.param([], "other.jpg", [], [], id="no detections at all"),
    ],
)
def test_boxes_of_image_by_format(values, name, boxes, scores):
    known = from_json(json.loads(json.dumps(values)))
    index = known.find(name)
    assert known.complete or index is not None
    found = known.inside(index, None, Tally(""))
    assert found[0].shape == (len(boxes), 4) and found[0].tolist() == boxes and found[1].tolist() == scores


@pytest.mark.parametrize("values", [PLAIN, ANNOTATIONS, {}])
def test_missing_image_entry_is_none(values):
    assert from_json(values).find("c.jpg") is None


def test_whole_name_disables_short_names():
    boxes = from_json(PLAIN)
    assert boxes.find("holiday/a.jpg", whole_name=True) is None
    assert boxes.find("sub/b.jpg", whole_name=True) is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param("a.jpg", r"a JSON str; wanted \{", id="text"),
        pytest.param(None, "a JSON NoneType; wanted", id="null"),
        pytest.param({"a.jpg": [1, 2, 3, 4]}, r"a\.jpg\[0\] is 1, a box is not four numbers", id="box not in a list"),
        pytest.param({"a.jpg": [[1, 2], [3, 4]]}, "a box is not four numbers", id="two numbers"),
        pytest.param({"a.jpg": [["a", 2, 3, 4]]}, "contains 'a', wanted finite numbers", id="text in a box"),
        pytest.param({"a.jpg": None}, "'a.jpg' is None, a list of boxes is missing", id="no list"),
        pytest.param([[1, 2, 3, 4]], r"\[0\] is \[1, 2, 3, 4\], wanted an object", id="a list of boxes"),
        pytest.param({"annotations": []}, "has no list `images`", id="annotations without images"),
        pytest.param([{"image_id": 1, "bbox": [1, 2, 3]}], r"bbox is \[1, 2, 3\], wanted four", id="three numbers"),
        pytest.param([{"bbox": [1, 2, 3, 4]}], r"\[0\]\.image_id is None, wanted a number or a name", id="no image"),
    ],
)
def test_invalid_json_value_raises(values, message):
    with pytest.raises(InputError, match=message) as caught:
        from_json(values)
    assert "\n" not in str(caught.value)


def test_repeated_names_join_their_boxes(tmp_path):
    (tmp_path / "boxes.json").write_text(
        '{"a.jpg": [[1, 2, 3, 4]], "b.jpg": [], "a.jpg": [[5, 6, 7, 8], [1, 2, 3, 4]]}'
    )
    known = read(tmp_path / "boxes.json")
    assert known.inside(known.find("a.jpg"), None, Tally(""))[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (
        known.counts.summary() == "2 of 3 boxes of boxes.json used; left out: 1 the same record twice (first a.jpg[2])."
    )


def detections(*categories):
    rows = [{"image_id": "a", "bbox": [number, 2, 3, 4]} for number in range(len(categories))]
    return [row if c is None else {**row, "category_id": c} for row, c in zip(rows, categories, strict=True)]


@pytest.mark.parametrize(
    ("categories", "options", "used"),
    [
        pytest.param([], {}, 0, id="none"),
        pytest.param([None, None], {}, 2, id="not given"),
        pytest.param([0, 0], {}, 2, id="0 alone"),
        pytest.param(["1", 1, 18], {}, 2, id="1 of COCO"),
        pytest.param([7.0, "7"], {}, 2, id="7 alone"),
        pytest.param(["Person", "car"], {}, 1, id="name"),
        pytest.param([0, 1, 1], {"category": 1}, 2, id="chosen"),
        pytest.param([1, 3, 3], {"expected": 3}, 2, id="that of the labels"),
        pytest.param([0, 1, 1], {"expected": 0}, 1, id="that of the labels counts from 0"),
        pytest.param([0, 1, 1], {"expected": 1, "category": 1}, 2, id="that of the labels, chosen"),
        pytest.param([2, 3, 3], {"expected": 3, "category": "person"}, 2, id="chosen by the name in the labels"),
        pytest.param(["Person_Keypoints", "car"], {}, 1, id="name of several words"),
        pytest.param([1, 18], {"expected": 3}, 1, id="that of the labels is not used"),
    ],
)
def test_category_of_detections(categories, options, used):
    assert from_json(detections(*categories), **options).counts.used == used


@pytest.mark.parametrize("categories", [[0, 1], [2, 3], [0, 2], ["person", "pedestrian"]])
def test_several_categories_ask_for_a_choice(categories):
    with pytest.raises(InputError, match=r"the detections are of the categories .*\. Choose one: --category NAME"):
        from_json(detections(*categories))


def test_category_of_the_labels_is_not_certain_where_ids_count_from_0():
    with pytest.raises(InputError, match="the detections are of the categories 0, 1"):
        from_json(detections(0, 1), expected=1)


def test_corners_that_are_sizes_are_counted_as_such():
    known = from_json({"a.jpg": [[50, 40, 20, 15], [1, 2, 3, 4]]})
    assert known.counts.summary() == (
        "1 of 2 boxes of the boxes used; left out: 1 whose right or bottom is before left or top (width and height in"
        " place of them?) (first a.jpg[0])."
    )


def test_nothing_used_is_an_error_with_counts():
    known = from_json(detections(1, 2), category=3)
    with pytest.raises(InputError, match=r"the boxes: 0 of 2 detections .* left out: 1 of category 1 \(first \[0\]\)"):
        known.matched([], "the images", ["a.jpg"])
