"""Parametric pose NMS: against its equations computed by hand, on duplicates, on distinct persons, on no person."""

import numpy as np
import pytest

from featherpose.nms import ETA, LAMBDA, SIGMA1, pose_nms, pose_similarity

BOX = [0, 0, 100, 200]  # a tenth of its sides is 10 and 20 pixels, of the larger side 20
POSE = np.random.default_rng(0).uniform(0, 100, (17, 2))


def shifted_poses(*shifts: float) -> np.ndarray:
    """The same pose, shifted to the right by each shift."""
    return np.stack([np.add(POSE, (shift, 0)) for shift in shifts])


def test_similarity_equals_hand_computation() -> None:
    """Three keypoints: 3 px off, inside the box of 10x20; 6 px to the right, outside it; 6 px below, inside it."""
    others = [[[3, 0], [56, 50], [80, 86]]]
    scores, other_scores = np.array([0.9, 0.8, 0.7]), np.array([[0.6, 0.5, 0.4]])
    matched = np.array([np.tanh(0.9 / 0.5) * np.tanh(0.6 / 0.5), 0, np.tanh(0.7 / 0.5) * np.tanh(0.4 / 0.5)])
    near = np.exp(-(np.array([3, 6, 6]) ** 2.0) / 20**2 / 0.3)
    found = pose_similarity([[0, 0], [50, 50], [80, 80]], scores, others, other_scores, BOX, 0.5, 0.3, 2.0)
    np.testing.assert_allclose(found, [(matched + 2 * near).mean()], rtol=1e-12)


def test_matching_box_is_per_axis_and_inclusive() -> None:
    moved = [[[5, 0]], [[5.001, 0]], [[0, 10]], [[0, 10.001]]]
    found = pose_similarity([[0, 0]], [9], moved, [[9]] * 4, BOX, balance=0)
    np.testing.assert_allclose(found, [1, 0, 1, 0], atol=1e-6)


def test_similarity_of_same_and_distant_pose() -> None:
    found = pose_similarity(POSE, np.ones(17), shifted_poses(0, 1e4), np.ones((2, 17)), BOX)
    np.testing.assert_allclose(found, [np.tanh(1 / SIGMA1) ** 2 + LAMBDA, 0], atol=1e-12)


def test_similarity_by_distance_and_scores() -> None:
    away = pose_similarity(POSE, np.ones(17), shifted_poses(0, 2, 4, 6, 20, 60), np.ones((6, 17)), BOX)
    assert (np.diff(away) < 0).all()
    confident = [
        pose_similarity(POSE, np.full(17, a), shifted_poses(1), [np.full(17, b)], BOX)[0] for a, b in ((1, 1), (1, 0.3))
    ]
    assert (
        confident[0]
        > confident[1]
        == pytest.approx(pose_similarity(POSE, np.full(17, 0.3), shifted_poses(1), np.ones((1, 17)), BOX)[0])
    )


@pytest.mark.parametrize("factor", [0.1, 7])
def test_similarity_is_scale_invariant(factor: float) -> None:
    plain, scaled = (
        pose_similarity(f * POSE, np.ones(17), f * shifted_poses(2, 4, 12), np.ones((3, 17)), f * np.array(BOX))
        for f in (1, factor)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-9)


def test_duplicates_are_suppressed() -> None:
    crowd = shifted_poses(2, 0, 300, 303)
    kept = pose_nms(crowd, np.full((4, 17), 0.8), [0.3, 0.9, 0.5, 0.6], [BOX] * 4)
    assert kept.tolist() == [1, 3]
    assert kept.dtype == np.int64


def test_only_kept_poses_suppress_others() -> None:
    """The middle one is suppressed by the first; the last, similar only to the middle one, is kept."""
    alike = [pose_similarity(POSE, np.ones(17), shifted_poses(d), np.ones((1, 17)), BOX)[0] for d in (18, 36)]
    threshold = float(np.mean(alike))
    kept = pose_nms(shifted_poses(0, 18, 36), np.ones((3, 17)), [0.9, 0.8, 0.7], [BOX] * 3, threshold)
    assert kept.tolist() == [0, 2]


def test_box_of_the_kept_pose_sets_the_scale() -> None:
    large, small = BOX, [0, 0, 20, 40]
    scores, confident = [0.9, 0.8], np.ones((2, 17))
    assert pose_nms(shifted_poses(0, 8), confident, scores, [large, small]).tolist() == [0]
    assert pose_nms(shifted_poses(0, 8), confident, scores, [small, large]).tolist() == [0, 1]


def test_pose_at_the_threshold_is_kept() -> None:
    crowd, confident = shifted_poses(0, 7), np.ones((2, 17))
    at = float(pose_similarity(crowd[0], confident[0], crowd[1:], confident[1:], BOX)[0])
    assert pose_nms(crowd, confident, [0.9, 0.8], [BOX] * 2, at).tolist() == [0, 1]
    assert pose_nms(crowd, confident, [0.9, 0.8], [BOX] * 2, at - 1e-9).tolist() == [0]


def test_similarity_for_any_number_of_keypoints() -> None:
    """The same errors on 3 keypoints and on 17 give the same similarity."""
    few, many = (pose_similarity(POSE[:k], np.ones(k), shifted_poses(3)[:, :k], np.ones((1, k)), BOX) for k in (3, 17))
    np.testing.assert_allclose(few, many)
    assert few > ETA


def test_equal_scores_keep_their_order() -> None:
    assert pose_nms(shifted_poses(0, 900, 1800), np.ones((3, 17)), [0.5] * 3, [BOX] * 3).tolist() == [0, 1, 2]


def test_pose_nms_of_no_pose_is_empty() -> None:
    assert pose_nms(np.zeros((0, 17, 2)), np.zeros((0, 17)), [], np.zeros((0, 4))).tolist() == []


def test_box_without_area_does_not_divide_by_zero() -> None:
    flat = pose_nms(shifted_poses(0, 0, 5), np.ones((3, 17)), [0.9, 0.8, 0.7], np.zeros((3, 4)))
    assert flat.tolist() == [0, 2]
