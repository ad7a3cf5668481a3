"""Poses, the result type: shapes are validated, scores, indexing, conversion to and from dicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.nms import oks_nms
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14

SIZE, SMALL = Size(height=240, width=320), Size(height=9, width=9)


def poses(num_persons: int = 3, seed: int = 0, ids: bool = False) -> Poses:
    rng = np.random.default_rng(seed)
    return Poses(
        keypoints=rng.uniform(0, 200, (num_persons, 17, 2)).astype(np.float32),
        scores=rng.uniform(0, 1, (num_persons, 17)).astype(np.float32),
        boxes_xyxy=np.array([[0, 0, 100, 200]] * num_persons, np.float32).reshape(-1, 4),
        box_scores=rng.uniform(0, 1, num_persons).astype(np.float32),
        skeleton=COCO17,
        image_size=SIZE,
        ids=np.arange(num_persons) + 7 if ids else None,
    )


def test_person_scores_and_nms_equal_published(parity: Path) -> None:
    """Box score x mean of the keypoint scores above 0.2, then OKS NMS at 0.9, image by image."""
    recorded = json.loads((parity / "rescore.json").read_text())
    keypoints, images = np.array(recorded["keypoints"]), np.array(recorded["image_id"])
    areas, boxes = np.array(recorded["area"]), np.array(recorded["box_score"])
    for n, image in enumerate(recorded["image_order"]):
        of_image = np.flatnonzero(images == image)
        persons = Poses(
            keypoints[of_image, :, :2],
            keypoints[of_image, :, 2],
            np.zeros((len(of_image), 4)),
            boxes[of_image],
            COCO17,
            Size(height=480, width=640),
        )
        kept = oks_nms(keypoints[of_image, :, :2], persons.person_scores, areas[of_image], COCO17.sigmas, 0.9)
        assert of_image[kept].tolist() == recorded["kept_per_image"][n]
        np.testing.assert_allclose(persons.person_scores[kept], recorded["score_of_kept"][n], rtol=1e-6)


def test_keypoint_at_score_threshold_is_ignored() -> None:
    scores = np.full((1, 17), 0.2, np.float32)
    scores[0, :2] = 0.8
    person = Poses(np.zeros((1, 17, 2)), scores, np.zeros((1, 4)), np.array([0.5]), COCO17, SMALL)
    assert person.person_scores == pytest.approx([0.4])


def test_person_of_only_low_scores_scores_zero() -> None:
    person = Poses(np.zeros((1, 17, 2)), np.full((1, 17), 0.1), np.zeros((1, 4)), np.ones(1), COCO17, SMALL)
    assert person.person_scores.tolist() == [0]


def test_empty_poses_are_a_valid_result() -> None:
    empty = Poses.empty(LSP14, SIZE)
    assert len(empty) == 0
    assert empty.keypoints.shape == (0, 14, 2)
    assert empty.scores.shape == (0, 14)
    assert empty.person_scores.shape == (0,)
    assert list(empty) == []
    assert empty.to_dict()["instances"] == []


def test_all_arrays_are_float32() -> None:
    person = Poses(
        np.zeros((1, 17, 2), np.float64), np.zeros((1, 17)), np.zeros((1, 4), int), np.ones(1), COCO17, SMALL
    )
    assert {
        getattr(person, name).dtype for name in ("keypoints", "scores", "boxes_xyxy", "box_scores", "person_scores")
    } == {np.dtype(np.float32)}


INDICES = [(1, [1]), (-1, [2]), (slice(0, 2), [0, 1]), (np.array([2, 0]), [2, 0]), (np.array([], int), [])]
INDICES += [(np.array([True, False, True]), [0, 2]), ([0], [0]), (np.int64(2), [2]), ([], [])]


@pytest.mark.parametrize(("index", "rows"), INDICES, ids=lambda value: repr(value))
@pytest.mark.parametrize("ids", [False, True], ids=["untracked", "tracked"])
def test_every_index_type_returns_poses(index: Any, rows: list[int], ids: bool) -> None:
    all_poses = poses(ids=ids)
    chosen = all_poses[index]
    assert isinstance(chosen, Poses)
    np.testing.assert_array_equal(chosen.keypoints, all_poses.keypoints[rows])
    np.testing.assert_array_equal(chosen.person_scores, all_poses.person_scores[rows])
    assert (None if chosen.ids is None else chosen.ids.tolist()) == ([i + 7 for i in rows] if ids else None)


def test_iteration_yields_single_persons() -> None:
    assert [len(person) for person in poses()] == [1, 1, 1]


def test_index_out_of_range_raises_index_error() -> None:
    with pytest.raises(IndexError):
        poses()[3]


@pytest.mark.parametrize("num_persons", [0, 1, 3], ids=["none", "one", "three"])
@pytest.mark.parametrize("ids", [False, True], ids=["untracked", "tracked"])
def test_json_round_trip_keeps_the_poses(num_persons: int, ids: bool) -> None:
    before = poses(num_persons, ids=ids)
    after = Poses.from_dict(json.loads(json.dumps(before.to_dict())), COCO17)
    np.testing.assert_allclose(after.keypoints, before.keypoints, atol=0.005001)
    np.testing.assert_allclose(after.scores, before.scores, atol=0.00005001)
    np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=0.005001)
    assert after.image_size == before.image_size
    if num_persons:
        assert (after.ids is None) == (before.ids is None)


def test_dict_contains_every_keypoint_name() -> None:
    person = poses(1).to_dict()["instances"][0]
    assert list(person["keypoints"]) == list(COCO17.keypoint_names)


def test_dict_with_other_skeleton_is_refused() -> None:
    with pytest.raises(InputError, match="have the skeleton 'coco17', wanted 'lsp14'"):
        Poses.from_dict(poses().to_dict(), LSP14)


SHAPES = {
    "keypoints": ((2, 16, 2), r"keypoints has the shape \(2, 16, 2\), wanted \(2, 17, 2\) \(coco17\)"),
    "scores": ((2, 17, 1), r"scores has the shape \(2, 17, 1\), wanted \(2, 17\)"),
    "boxes_xyxy": ((1, 4), r"boxes_xyxy has the shape \(1, 4\), wanted \(2, 4\)"),
    "box_scores": ((2, 1), r"box_scores has the shape \(2, 1\), wanted \(2,\)"),
    "ids": ((3,), r"ids has the shape \(3,\), wanted \(2,\)"),
}


@pytest.mark.parametrize(("field", "shape", "message"), [(f, *row) for f, row in SHAPES.items()], ids=SHAPES)
def test_arrays_of_wrong_shape_are_refused(field: str, shape: tuple[int, ...], message: str) -> None:
    right = {"keypoints": (2, 17, 2), "scores": (2, 17), "boxes_xyxy": (2, 4), "box_scores": (2,), "ids": (2,)}
    values = {name: np.zeros(s) for name, s in {**right, field: shape}.items()}
    with pytest.raises(InputError, match=message):
        Poses(**values, skeleton=COCO17, image_size=SMALL)


def test_repr_is_one_line() -> None:
    poses = Poses.empty(COCO17, Size(height=40, width=30))
    assert repr(poses) == "Poses(0 x coco17, person scores [], image 40x30)"
