import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.formats import native
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14

SIZE = Size(height=90, width=100)


def some_poses(number: int, ids=None) -> Poses:
    rng = np.random.default_rng(number)
    keypoints, scores = rng.uniform(0, 99, (number, 17, 2)).round(2), rng.uniform(0, 1, (number, 17)).round(4)
    return Poses(keypoints, scores, rng.uniform(0, 99, (number, 4)).round(2), np.ones(number), COCO17, SIZE, ids)


DOCUMENTS = [
    pytest.param({}, id="no images"),
    pytest.param({"a.jpg": some_poses(0)}, id="no person"),
    pytest.param({"b/a.jpg": some_poses(2), "a.jpg": some_poses(1)}, id="two images, in order"),
    pytest.param({"a.jpg": some_poses(2, np.array([7, 3]))}, id="tracked"),
]
SCHEMA = Path(__file__).parents[2] / "docs" / "poses.schema.json"


@pytest.mark.parametrize("poses", DOCUMENTS)
def test_document_follows_the_schema(poses):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    document = json.loads(native.to_text(native.to_document(poses, COCO17, "feather_pose")))
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors({**document, "version": native.VERSION + 1}))


@pytest.mark.parametrize("poses", DOCUMENTS)
def test_document_roundtrip(poses):
    text = native.to_text(native.to_document(poses, COCO17, model="tiny"))
    assert text.count("\n") == max(len(poses), 1) + 2, "one line per image"
    back = native.from_document(json.loads(text))
    assert list(back) == list(poses)
    for name, found in poses.items():
        assert len(back[name]) == len(found) and back[name].image_size == found.image_size
        assert back[name].skeleton == COCO17
        assert np.array_equal(back[name].keypoints, found.keypoints) and np.array_equal(
            back[name].boxes_xyxy, found.boxes_xyxy
        )
        assert (back[name].ids is None) == (len(found) == 0 or found.ids is None)


def test_keypoints_are_stored_by_name():
    poses = some_poses(1)
    entry = native.to_document({"a.jpg": poses}, COCO17, model="tiny")["images"][0]["instances"][0]
    assert list(entry["keypoints"]) == list(COCO17.keypoint_names)
    assert entry["keypoints"]["left_knee"][:2] == pytest.approx(poses.keypoints[0, 13].tolist())


def test_the_sides_of_a_picture_are_named():
    (entry,) = native.to_document({"a.jpg": some_poses(1)}, COCO17)["images"]
    assert entry["image_size"] == {"height": 90, "width": 100}


def test_one_document_has_one_skeleton():
    with pytest.raises(InputError, match=r"a\.jpg: its skeleton is coco17, wanted lsp14"):
        native.to_document({"a.jpg": some_poses(1)}, LSP14)


GOOD = native.to_document({"a.jpg": some_poses(1)}, COCO17)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param([], "Not poses in featherpose's format", id="a list"),
        pytest.param({}, 'wanted an object with "format": "featherpose poses"', id="other JSON"),
        pytest.param(GOOD | {"version": 3}, "Poses of version 3, wanted 2", id="newer"),
        pytest.param(GOOD | {"version": 1}, "Poses of version 1, wanted 2", id="older"),
        pytest.param({k: v for k, v in GOOD.items() if k != "images"}, "lack the key 'images'", id="no images"),
    ],
)
def test_invalid_document_raises(document, message):
    with pytest.raises(InputError, match=message):
        native.from_document(document)
