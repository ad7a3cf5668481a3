"""PCKh against the values of the evaluation published with HRNet, and its edge cases."""

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import DataError
from featherpose.evaluation.pckh import head_sizes, pckh


@pytest.fixture
def people(shared: Path) -> dict:
    arrays = np.load(shared / "parity/mpii.npz")
    return {
        "predicted": arrays["preds_0based"],
        "keypoints": arrays["gt_1based"].transpose(2, 0, 1) - 1,
        "visible": 1 - arrays["jnt_missing"].T,
        "head_sizes": head_sizes(arrays["headboxes_1based"].transpose(2, 0, 1).reshape(-1, 4) - 1),
    }


@pytest.fixture
def published(shared: Path) -> dict:
    with np.load(shared / "parity/mpii.npz") as arrays:
        return {**json.loads((shared / "parity/mpii.json").read_text()), **arrays}


def test_equals_the_published_table(people: dict, published: dict) -> None:
    scores = pckh(**people)
    table = {**{part.capitalize(): value for part, value in scores.parts.items()}, "Mean": scores.mean}
    assert table.keys() == published["name_value"].keys() - {"Mean@0.1"}
    for name, value in table.items():
        assert 100 * value == pytest.approx(published["name_value"][name], abs=1e-9), name
    np.testing.assert_allclose(100 * scores.per_keypoint, published["pckh05_per_joint"], atol=1e-9)


def test_equals_the_published_curve_at_every_threshold(people: dict, published: dict) -> None:
    curve = [100 * pckh(**people, threshold=t).per_keypoint for t in published["pck_thresholds"]]
    np.testing.assert_allclose(curve, published["pck_all_0_to_050"], atol=1e-9)


def test_the_published_mean_at_010_is_read_at_011(people: dict, published: dict) -> None:
    assert 100 * pckh(**people, threshold=0.10).mean == pytest.approx(published["mean_at_true_010"], abs=1e-9)
    assert 100 * pckh(**people, threshold=0.11).mean == pytest.approx(published["name_value"]["Mean@0.1"], abs=1e-9)


def test_an_error_of_exactly_the_threshold_is_right() -> None:
    truth = np.zeros((1, 16, 2))
    assert pckh(np.add(truth, (3, 4)), truth, np.ones((1, 16)), [10], threshold=0.5).mean == 1
    assert pckh(np.add(truth, (3, 4.01)), truth, np.ones((1, 16)), [10], threshold=0.5).mean == 0


def test_pelvis_and_thorax_have_a_figure_but_no_part_in_the_mean() -> None:
    truth = np.zeros((1, 16, 2))
    predicted = truth.copy()
    predicted[:, [6, 7]] = 1000
    scores = pckh(predicted, truth, np.ones((1, 16)), [10])
    assert scores.mean == 1
    assert scores.per_keypoint[[6, 7]].tolist() == [0, 0]


def test_a_joint_that_nobody_has_labelled_is_nan() -> None:
    visible = np.ones((2, 16))
    visible[:, 9] = 0
    scores = pckh(np.zeros((2, 16, 2)), np.zeros((2, 16, 2)), visible, [10, 10])
    assert np.isnan(scores.parts["head"])
    assert scores.mean == 1


def test_another_skeleton_is_refused() -> None:
    with pytest.raises(DataError, match=r"MPII's 16 keypoints; `visible` has shape \(1, 17\)"):
        pckh(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.ones((1, 17)), [10])


def test_a_head_without_size_is_refused() -> None:
    with pytest.raises(DataError, match="of person 1 is 0; wanted a positive"):
        pckh(np.zeros((2, 16, 2)), np.zeros((2, 16, 2)), np.ones((2, 16)), [10, 0])
