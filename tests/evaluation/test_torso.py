"""The torso's diagonal, worked by hand."""

import numpy as np
import pytest

from featherpose.errors import DataError
from featherpose.evaluation.torso import torso_sizes
from featherpose.skeleton import LSP14, Skeleton

LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = (
    LSP14.keypoint_names.index(name) for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
)


def one_person() -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (1, 14, 2) and visible (1, 14): diagonals of 50 px, from the left shoulder, and of 100 px."""
    keypoints = np.zeros((1, 14, 2))
    keypoints[0, RIGHT_HIP] = (30, 40)
    keypoints[0, LEFT_HIP] = (60, 80)
    return keypoints, np.ones((1, 14))


@pytest.mark.parametrize(
    ("unlabeled", "size"),
    [
        pytest.param([], 50.0, id="left shoulder to right hip"),
        pytest.param([RIGHT_HIP], 100.0, id="right hip not labeled"),
        pytest.param([LEFT_SHOULDER, RIGHT_SHOULDER], np.nan, id="no shoulder labeled"),
    ],
)
def test_torso_size(unlabeled: list[int], size: float) -> None:
    keypoints, visible = one_person()
    visible[:, unlabeled] = 0
    np.testing.assert_array_equal(torso_sizes(keypoints, visible, LSP14), [size])


def test_nobody_and_a_torso_without_length() -> None:
    assert torso_sizes(np.zeros((0, 14, 2)), np.zeros((0, 14)), LSP14).shape == (0,)
    assert np.isnan(torso_sizes(np.zeros((1, 14, 2)), np.ones((1, 14)), LSP14)).all()


def test_skeleton_without_hips_raises() -> None:
    arms = Skeleton.from_names("arms", ["left_shoulder", "right_shoulder"])
    with pytest.raises(DataError, match="needs right_hip, left_hip, which arms lacks"):
        torso_sizes(np.zeros((1, 2, 2)), np.ones((1, 2)), arms)
