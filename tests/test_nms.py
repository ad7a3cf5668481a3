"""Parametric pose NMS: against its equations computed by hand, on duplicates, on distinct persons, on no person."""

import numpy as np
import pytest

from featherpose.nms import ETA, LAMBDA, SIGMA1, pose_likeness, pose_nms

BOX = [0, 0, 100, 200]  # a tenth of its sides is 10 and 20 pixels, of the larger side 20
POSE = np.random.default_rng(0).uniform(0, 100, (17, 2))


def people(*shifts: float) -> np.ndarray:
    """The same pose, shifted to the right by each shift."""
    return np.stack([np.add(POSE, (shift, 0)) for shift in shifts])


def test_likeness_by_hand() -> None:
    """Three keypoints: 3 px off, inside the box of 10x20; 6 px to the right, outside it; 6 px below, inside it."""
    others = [[[3, 0], [56, 50], [80, 86]]]
    scores, other_scores = np.array([0.9, 0.8, 0.7]), np.array([[0.6, 0.5, 0.4]])
    matched = np.array([np.tanh(0.9 / 0.5) * np.tanh(0.6 / 0.5), 0, np.tanh(0.7 / 0.5) * np.tanh(0.4 / 0.5)])
    near = np.exp(-(np.array([3, 6, 6]) ** 2.0) / 20**2 / 0.3)
    found = pose_likeness([[0, 0], [50, 50], [80, 80]], scores, others, other_scores, BOX, 0.5, 0.3, 2.0)
    np.testing.assert_allclose(found, [(matched + 2 * near).mean()], rtol=1e-12)


def test_sides_of_the_box_count_apart_and_its_edge_belongs_to_it() -> None:
    moved = [[[5, 0]], [[5.001, 0]], [[0, 10]], [[0, 10.001]]]
    found = pose_likeness([[0, 0]], [9], moved, [[9]] * 4, BOX, balance=0)
    np.testing.assert_allclose(found, [1, 0, 1, 0], atol=1e-6)


def test_the_same_pose_reaches_the_largest_likeness_and_a_distant_one_none() -> None:
    found = pose_likeness(POSE, np.ones(17), people(0, 1e4), np.ones((2, 17)), BOX)
    np.testing.assert_allclose(found, [np.tanh(1 / SIGMA1) ** 2 + LAMBDA, 0], atol=1e-12)


def test_likeness_falls_with_distance_and_rises_with_either_score() -> None:
    away = pose_likeness(POSE, np.ones(17), people(0, 2, 4, 6, 20, 60), np.ones((6, 17)), BOX)
    assert (np.diff(away) < 0).all()
    confident = [
        pose_likeness(POSE, np.full(17, a), people(1), [np.full(17, b)], BOX)[0] for a, b in ((1, 1), (1, 0.3))
    ]
    assert (
        confident[0]
        > confident[1]
        == pytest.approx(pose_likeness(POSE, np.full(17, 0.3), people(1), np.ones((1, 17)), BOX)[0])
    )


@pytest.mark.parametrize("factor", [0.1, 7])
def test_the_size_of_people_does_not_matter(factor: float) -> None:
    plain, scaled = (
        pose_likeness(f * POSE, np.ones(17), f * people(2, 4, 12), np.ones((3, 17)), f * np.array(BOX))
        for f in (1, factor)
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-9)


def test_duplicates_go_and_the_better_one_stays() -> None:
    crowd = people(2, 0, 300, 303)
    kept = pose_nms(crowd, np.full((4, 17), 0.8), [0.3, 0.9, 0.5, 0.6], [BOX] * 4)
    assert kept.tolist() == [1, 3]
    assert kept.dtype == np.int64


def test_only_those_kept_drive_others_out() -> None:
    """The middle one is suppressed by the first; the last, similar only to the middle one, is kept."""
    alike = [pose_likeness(POSE, np.ones(17), people(d), np.ones((1, 17)), BOX)[0] for d in (18, 36)]
    threshold = float(np.mean(alike))
    kept = pose_nms(people(0, 18, 36), np.ones((3, 17)), [0.9, 0.8, 0.7], [BOX] * 3, threshold)
    assert kept.tolist() == [0, 2]


def test_the_box_is_that_of_the_better_person() -> None:
    large, small = BOX, [0, 0, 20, 40]
    scores, confident = [0.9, 0.8], np.ones((2, 17))
    assert pose_nms(people(0, 8), confident, scores, [large, small]).tolist() == [0]
    assert pose_nms(people(0, 8), confident, scores, [small, large]).tolist() == [0, 1]


def test_a_person_at_exactly_the_threshold_stays() -> None:
    crowd, confident = people(0, 7), np.ones((2, 17))
    at = float(pose_likeness(crowd[0], confident[0], crowd[1:], confident[1:], BOX)[0])
    assert pose_nms(crowd, confident, [0.9, 0.8], [BOX] * 2, at).tolist() == [0, 1]
    assert pose_nms(crowd, confident, [0.9, 0.8], [BOX] * 2, at - 1e-9).tolist() == [0]


def test_the_threshold_serves_any_number_of_joints() -> None:
    """The same errors on 3 keypoints and on 17 give the same similarity."""
    few, many = (pose_likeness(POSE[:k], np.ones(k), people(3)[:, :k], np.ones((1, k)), BOX) for k in (3, 17))
    np.testing.assert_allclose(few, many)
    assert few > ETA


def test_people_of_equal_scores_keep_their_order() -> None:
    assert pose_nms(people(0, 900, 1800), np.ones((3, 17)), [0.5] * 3, [BOX] * 3).tolist() == [0, 1, 2]


def test_nobody_in_nobody_out() -> None:
    assert pose_nms(np.zeros((0, 17, 2)), np.zeros((0, 17)), [], np.zeros((0, 4))).tolist() == []


def test_a_box_without_an_area_is_no_division_by_zero() -> None:
    flat = pose_nms(people(0, 0, 5), np.ones((3, 17)), [0.9, 0.8, 0.7], np.zeros((3, 4)))
    assert flat.tolist() == [0, 2]
