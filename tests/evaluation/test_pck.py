"""PCK and the validation metrics on crops."""

import numpy as np
import pytest

from featherpose.errors import DataError
from featherpose.evaluation.pck import pck, validation_oks
from featherpose.skeleton import COCO17

SIGMAS = np.array(COCO17.sigmas)


def random_samples(count: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth (N, 17, 2), visible (N, 17), areas (N,)."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 200, (count, 17, 2))
    visible = rng.integers(0, 3, (count, 17))
    visible[:, 0] = 2
    return truth, visible, rng.uniform(2000, 20000, count)


def test_pck_counts_labeled_keypoints_only() -> None:
    truth = np.zeros((2, 3, 2))
    predicted = truth.copy()
    predicted[0, 0] = [3, 4]  # 0.5 of the reference: correct, exactly at the threshold
    predicted[0, 1] = [0, 6]  # wrong
    predicted[1, 2] = [90, 90]  # wrong but not labeled
    scores = pck(predicted, truth, [[2, 1, 0], [1, 1, 0]], [10, 10], threshold=0.5)
    np.testing.assert_array_equal(scores.per_keypoint, [1, 0.5, np.nan])
    assert scores.mean == 0.75


def test_pck_scales_with_reference_length() -> None:
    truth = np.zeros((2, 1, 2))
    scores = pck(np.add(truth, (4, 0)), truth, np.ones((2, 1)), [10, 100], threshold=0.1)
    assert scores.mean == 0.5


def test_pck_without_instances_is_nan() -> None:
    scores = pck(np.zeros((0, 17, 2)), np.zeros((0, 17, 2)), np.zeros((0, 17)), [], threshold=0.5)
    assert np.isnan(scores.per_keypoint).all()
    assert np.isnan(scores.mean)


def test_pck_in_mean_excludes_keypoints() -> None:
    truth = np.zeros((1, 2, 2))
    predicted = np.array([[[0, 0], [50, 0]]])
    assert pck(predicted, truth, np.ones((1, 2)), [10], 0.5, in_mean=[True, False]).mean == 1


def test_validation_oks_of_perfect_is_one() -> None:
    truth, visible, areas = random_samples()
    assert validation_oks(truth, truth, visible, areas, SIGMAS) == (1, 1)


def test_validation_oks_matches_hand_computation() -> None:
    """One keypoint, sigma 0.5, area 100: OKS = exp(-d²/200). At d = 6 it is 0.835, above 7 of the 10 thresholds."""
    truth = np.zeros((2, 1, 2))
    predicted = np.array([[[6.0, 0]], [[0, 100.0]]])
    scores = validation_oks(predicted, truth, np.ones((2, 1)), [100, 100], [0.5])
    assert scores.oks == pytest.approx(np.exp(-36 / 200) / 2)
    assert scores.oks_accuracy == pytest.approx(0.35)


def test_validation_oks_decreases_with_error() -> None:
    truth, visible, areas = random_samples()
    scores = [validation_oks(truth + shift, truth, visible, areas, SIGMAS) for shift in (0, 2, 5, 20)]
    assert [s.oks for s in scores] == sorted((s.oks for s in scores), reverse=True)
    assert [s.oks_accuracy for s in scores] == sorted((s.oks_accuracy for s in scores), reverse=True)
    assert scores[-1].oks_accuracy < 0.1


def test_unlabeled_persons_are_left_out() -> None:
    truth, visible, areas = random_samples()
    visible[2:] = 0
    alone = validation_oks(truth[:2] + 3, truth[:2], visible[:2], areas[:2], SIGMAS)
    assert validation_oks(truth + 3, truth, visible, areas, SIGMAS) == pytest.approx(alone)


@pytest.mark.parametrize("count", [0, 3], ids=["no person", "no labels"])
def test_validation_oks_without_labels_is_nan(count: int) -> None:
    truth = np.zeros((count, 17, 2))
    assert np.isnan(validation_oks(truth, truth, np.zeros((count, 17)), np.ones(count), SIGMAS)).all()


BAD = [
    (
        (np.zeros((1, 16, 2)), np.zeros((1, 17, 2)), np.ones((1, 17)), [9]),
        r"shape \(1, 16, 2\), labeled keypoints \(1, 17",
    ),
    ((np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.ones((1, 17)), [0]), "of person 0 is 0; wanted a positive"),
    ((np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.ones((1, 17)), [np.nan]), "of person 0 is nan; wanted a positive"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD, ids=["keypoints", "zero", "nan"])
def test_invalid_input_raises_data_error(arrays: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pck(*arrays, threshold=0.5)
    with pytest.raises(DataError, match=message):
        validation_oks(*arrays, SIGMAS)
