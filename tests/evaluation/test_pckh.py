"""PCKh against the values of the evaluation published with HRNet, and its edge cases."""

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import DataError
from featherpose.evaluation.pckh import head_sizes, pckh


@pytest.fixture
def samples(parity: Path) -> dict:
    arrays = np.load(parity / "mpii.npz")
    return {
        "predicted": arrays["preds_0based"],
        "keypoints": arrays["gt_1based"].transpose(2, 0, 1) - 1,
        "visible": 1 - arrays["jnt_missing"].T,
        "head_sizes": head_sizes(arrays["headboxes_1based"].transpose(2, 0, 1).reshape(-1, 4) - 1),
    }


@pytest.fixture
def published(parity: Path) -> dict:
    with np.load(parity / "mpii.npz") as arrays:
        return {**json.loads((parity / "mpii.json").read_text()), **arrays}


def test_pckh_equals_published_table(samples: dict, published: dict) -> None:
    scores = pckh(**samples)
    table = {**{part.capitalize(): value for part, value in scores.parts.items()}, "Mean": scores.mean}
    assert table.keys() == published["name_value"].keys() - {"Mean@0.1"}
    for name, value in table.items():
        assert 100 * value == pytest.approx(published["name_value"][name], abs=1e-9), name
    np.testing.assert_allclose(100 * scores.per_keypoint, published["pckh05_per_joint"], atol=1e-9)


def test_pckh_equals_published_curve(samples: dict, published: dict) -> None:
    curve = [100 * pckh(**samples, threshold=t).per_keypoint for t in published["pck_thresholds"]]
    np.testing.assert_allclose(curve, published["pck_all_0_to_050"], atol=1e-9)


def test_published_mean_at_010_uses_011(samples: dict, published: dict) -> None:
    assert 100 * pckh(**samples, threshold=0.10).mean == pytest.approx(published["mean_at_true_010"], abs=1e-9)
    assert 100 * pckh(**samples, threshold=0.11).mean == pytest.approx(published["name_value"]["Mean@0.1"], abs=1e-9)


def test_error_equal_to_threshold_is_correct() -> None:
    truth = np.zeros((1, 16, 2))
    assert pckh(np.add(truth, (3, 4)), truth, np.ones((1, 16)), [10], threshold=0.5).mean == 1
    assert pckh(np.add(truth, (3, 4.01)), truth, np.ones((1, 16)), [10], threshold=0.5).mean == 0


def test_pelvis_and_thorax_are_not_in_mean() -> None:
    truth = np.zeros((1, 16, 2))
    predicted = truth.copy()
    predicted[:, [6, 7]] = 1000
    scores = pckh(predicted, truth, np.ones((1, 16)), [10])
    assert scores.mean == 1
    assert scores.per_keypoint[[6, 7]].tolist() == [0, 0]


def test_unlabeled_keypoint_is_nan() -> None:
    visible = np.ones((2, 16))
    visible[:, 9] = 0
    scores = pckh(np.zeros((2, 16, 2)), np.zeros((2, 16, 2)), visible, [10, 10])
    assert np.isnan(scores.parts["head"])
    assert scores.mean == 1


def test_other_skeleton_raises() -> None:
    with pytest.raises(DataError, match=r"MPII's 16 keypoints; `visible` has shape \(1, 17\)"):
        pckh(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.ones((1, 17)), [10])


def test_zero_head_size_raises() -> None:
    with pytest.raises(DataError, match="of person 1 is 0; wanted a positive"):
        pckh(np.zeros((2, 16, 2)), np.zeros((2, 16, 2)), np.ones((2, 16)), [10, 0])
