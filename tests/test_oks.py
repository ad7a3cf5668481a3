"""Object keypoint similarity and OKS NMS, against the numbers of the published implementation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.nms import oks_nms, soft_oks_nms
from featherpose.oks import oks, person_area
from featherpose.skeleton import COCO17

SIGMAS = np.array(COCO17.sigmas)


@pytest.fixture
def groups(parity: Path) -> list[dict[str, Any]]:
    """The recorded groups in which all keypoints count, as in the published results."""
    recorded = json.loads((parity / "oks_nms.json").read_text())
    return [group for group in recorded if group["in_vis_thre"] is None]


def arrays(group: dict[str, Any]) -> dict[str, Any]:
    keypoints = np.array([person["keypoints"] for person in group["people"]])
    return {
        "keypoints": keypoints.reshape(len(keypoints), -1, 3)[..., :2],
        "scores": np.array([person["score"] for person in group["people"]]),
        "areas": np.array([person["area"] for person in group["people"]]),
        "sigmas": group["sigmas"] or SIGMAS,
    }


def test_oks_equals_published_values(groups: list[dict[str, Any]]) -> None:
    assert len(groups) == 6
    for group in groups:
        persons = arrays(group)
        points, areas = persons["keypoints"], persons["areas"]
        similarity = oks(points[0], points, (areas[0] + areas) / 2, persons["sigmas"])
        np.testing.assert_allclose(similarity, group["oks_of_first_to_all"], rtol=0, atol=1e-12)


def test_oks_nms_equals_published_selection(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        kept = oks_nms(**arrays(group), threshold=group["thresh"]).tolist()
        assert kept == group["oks_nms_keep"]
    assert any(len(group["oks_nms_keep"]) < len(group["people"]) for group in groups)


def test_soft_oks_nms_equals_published_selection(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        kept = soft_oks_nms(**arrays(group), threshold=group["thresh"]).tolist()
        assert kept == group["soft_oks_nms_keep"]
    assert any(len(group["people"]) > 20 for group in groups)


def test_oks_equals_hand_computation() -> None:
    """One keypoint 6 px away, sigma 0.5, area 100: exp(-36 / (2 * 100 * 1))."""
    assert oks([[0, 0]], [[[6, 0]]], 100, [0.5]) == pytest.approx([np.exp(-36 / 200)])


def test_oks_of_same_and_distant_keypoints() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (17, 2))
    np.testing.assert_allclose(oks(points, [points, points + 1e5], 2000, SIGMAS), [1, 0], atol=1e-12)


def test_oks_counts_only_visible_keypoints() -> None:
    points = np.zeros((17, 2))
    other = points.copy()
    other[5:] = 500
    visible = np.arange(17) < 5
    assert oks(points, [other], 2000, SIGMAS, visible) == pytest.approx([1])
    assert oks(points, [other], 2000, SIGMAS, ~visible) == pytest.approx([0])
    assert oks(points, [other], 2000, SIGMAS) == pytest.approx([5 / 17])


def test_oks_with_visibility_per_person() -> None:
    points, other = np.zeros((2, 2)), np.array([[[0.0, 0], [500, 500]]] * 3)
    visible = [[1, 0], [0, 1], [1, 1]]
    np.testing.assert_allclose(oks(points, other, 100, [0.1, 0.1], visible), [1, 0, 0.5])


def test_oks_without_visible_keypoints_is_zero() -> None:
    assert oks(np.zeros((17, 2)), np.zeros((2, 17, 2)), 100, SIGMAS, np.zeros(17)).tolist() == [0, 0]


def test_oks_with_no_others_is_empty() -> None:
    assert oks(np.zeros((17, 2)), np.zeros((0, 17, 2)), 100, SIGMAS).shape == (0,)


@pytest.mark.parametrize("suppress", [oks_nms, soft_oks_nms])
def test_oks_nms_of_no_pose_is_empty(suppress: Any) -> None:
    assert suppress(np.zeros((0, 17, 2)), [], [], SIGMAS).tolist() == []


def test_duplicates_are_suppressed() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (17, 2))
    persons = np.stack([points + 1, points, points + 300])
    assert oks_nms(persons, [0.3, 0.9, 0.5], [8000] * 3, SIGMAS).tolist() == [1, 2]
    assert soft_oks_nms(persons, [0.3, 0.9, 0.5], [8000] * 3, SIGMAS).tolist() == [1, 2, 0]


def test_pose_at_the_threshold_is_kept() -> None:
    points = np.zeros((2, 1, 2))
    points[1, 0, 0] = 6
    threshold = float(oks(points[0], points[1:], 100, [0.5])[0])
    assert oks_nms(points, [0.9, 0.8], [100, 100], [0.5], threshold).tolist() == [0, 1]
    assert oks_nms(points, [0.9, 0.8], [100, 100], [0.5], threshold - 1e-9).tolist() == [0]


def test_soft_oks_nms_limits_the_number() -> None:
    persons = np.arange(30)[:, None, None] * 1000 + np.zeros((30, 17, 2))
    assert soft_oks_nms(persons, np.linspace(1, 0.1, 30), [8000] * 30, SIGMAS, max_poses=5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("annotated", "area"), [(None, 0.53 * 1200), (0.0, 0.0), (500, 500.0)])
def test_unknown_area_is_a_share_of_the_box(annotated: float | None, area: float) -> None:
    assert person_area(annotated, [10, 20, 30, 40]) == pytest.approx(area)
