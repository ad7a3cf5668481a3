"""Poses, the result type: shapes are validated, scores, indexing, conversion to and from dicts."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

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
    "interpolated": ((2, 16), r"interpolated has the shape \(2, 16\), wanted \(2, 17\)"),
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


@pytest.mark.parametrize(
    ("score", "rows"),
    [pytest.param(-1, [0, 1, 2], id="all"), pytest.param(0.4, [1], id="one"), pytest.param(1, [], id="none")],
)
def test_above_keeps_persons_by_their_score(score: float, rows: list[int]) -> None:
    all_poses = replace(poses(ids=True), scores=np.full((3, 17), 0.5), box_scores=np.array([0.8, 1, 0.1]))
    kept = all_poses.above(score)
    assert kept.ids is not None and kept.ids.tolist() == [row + 7 for row in rows]


def test_empty_poses_can_be_filtered() -> None:
    empty = Poses.empty(COCO17, SIZE)
    assert len(empty.above(0.5)) == len(empty[empty.box_scores > 0.5]) == 0
    assert empty.keypoint("nose").shape == (0, 3)
    assert empty.angles("left_shoulder", "left_elbow", "left_wrist").shape == (0,)


def test_keypoint_is_found_by_name() -> None:
    all_poses = poses()
    wrist = all_poses.keypoint("left_wrist")
    assert wrist.shape == (3, 3) and wrist.dtype == np.float32
    assert np.array_equal(wrist[:, :2], all_poses.keypoints[:, 9]) and np.array_equal(
        wrist[:, 2], all_poses.scores[:, 9]
    )


def test_unknown_keypoint_names_the_nearest() -> None:
    for call in (lambda: poses().keypoint("left_wirst"), lambda: poses().angles("nose", "left_wirst", "nose")):
        with pytest.raises(InputError, match=r"coco17 has no keypoint 'left_wirst'\. Did you mean 'left_wrist'"):
            call()


ARMS = [
    pytest.param((10, 0), (20, 0), 0.9, 180, id="straight"),
    pytest.param((10, 0), (10, 5), 0.9, 90, id="right angle"),
    pytest.param((10, 0), (10, -5), 0.9, 90, id="right angle, other side"),
    pytest.param((10, 0), (0, 10), 0.9, 45, id="half of it"),
    pytest.param((10, 0), (5, 0), 0.9, 0, id="folded"),
    pytest.param((10, 0), (10, 0), 0.9, np.nan, id="no forearm"),
    pytest.param((10, 0), (20, 0), 0.2, np.nan, id="wrist not confident"),
    pytest.param((10, 0), (np.nan, 0), 0.9, np.nan, id="not a number"),
]


@pytest.mark.parametrize(("elbow", "wrist", "score", "degrees"), ARMS)
def test_angle_of_an_arm_in_degrees(elbow: Any, wrist: Any, score: float, degrees: float) -> None:
    person = poses(1)
    person.keypoints[0, [5, 7, 9]] = [(0, 0), elbow, wrist]
    person.scores[0, [5, 7, 9]] = (0.9, 0.9, score)
    angle = person.angles("left_shoulder", "left_elbow", "left_wrist")
    assert angle.dtype == np.float32
    np.testing.assert_allclose(angle, [degrees], atol=1e-4)
    if score == 0.2:
        assert np.isfinite(person.angles("left_shoulder", "left_elbow", "left_wrist", min_score=0.1)).all()


@dataclass
class NewKeyPoints:
    """The fields of supervision.KeyPoints since 0.29."""

    xy: Any
    class_id: Any = None
    keypoint_confidence: Any = None
    data: Any = None


@dataclass
class OldKeyPoints:
    """The fields of supervision.KeyPoints before 0.29."""

    xy: Any
    class_id: Any = None
    confidence: Any = None
    data: Any = None


@pytest.mark.parametrize("library", [NewKeyPoints, OldKeyPoints])
@pytest.mark.parametrize("ids", [False, True], ids=["untracked", "tracked"])
def test_supervision_gets_keypoints_and_scores(library: Any, ids: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=library))
    before = poses(2, ids=ids)
    after = before.to_supervision()
    assert np.array_equal(after.xy, before.keypoints) and after.class_id.tolist() == [0, 0]
    assert np.array_equal(vars(after).get("keypoint_confidence", vars(after).get("confidence")), before.scores)
    assert after.data["class_name"].tolist() == ["person", "person"]
    assert (list(after.data["tracker_id"]) if ids else "tracker_id" not in after.data) == ([7, 8] if ids else True)


def test_missing_supervision_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="Type: pip install supervision"):
        poses().to_supervision()


def test_notebooks_display_valid_svg() -> None:
    unsure = poses(1)
    unsure.scores[:] = 0.9
    unsure.scores[0, 9] = 0.1
    unsure.keypoints[0, 16] = np.nan
    tags = {name: [part.tag.split("}")[1] for part in ElementTree.fromstring(shown._repr_svg_()).iter()]
            for name, shown in (("none", Poses.empty(COCO17, SIZE)), ("one", unsure))}  # fmt: skip
    assert tags["none"] == ["svg", "rect", "g"]
    assert tags["one"].count("line") == len(COCO17.limbs) - 1 and tags["one"].count("circle") == 15
    assert unsure._repr_svg_().count("stroke-dasharray") == 1 and "nan" not in unsure._repr_svg_()
