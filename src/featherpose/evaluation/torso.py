"""The length of the torso, to which PCK is relative on LSP and on FLIC: the diagonal of the labeled torso.

It runs from the left shoulder to the right hip (Sapp and Taskar 2013), as labeled. Where one of them is not
labeled it is the other diagonal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import DataError
from featherpose.skeleton import Skeleton

DIAGONALS = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))


def torso_sizes(keypoints: ArrayLike, visible: ArrayLike, skeleton: Skeleton) -> NDArray[np.float64]:
    """Keypoints (N, K, 2), visible (N, K) -> diagonals of the torsos (N,) in the same pixels.

    nan where no diagonal is labeled, or both of its ends are in one place.
    """
    names = skeleton.keypoint_names
    missing = [name for ends in DIAGONALS for name in ends if name not in names]
    if missing:
        raise DataError(f"PCK relative to the torso needs {', '.join(missing)}, which {skeleton.name} lacks.")
    points = np.asarray(keypoints, np.float64)
    labeled = np.asarray(visible) > 0
    sizes = np.full(len(points), np.nan)
    for ends in reversed(DIAGONALS):  # the first one, where it is labeled, replaces the other
        start, end = (names.index(name) for name in ends)
        lengths = np.linalg.norm(points[:, start] - points[:, end], axis=-1)
        known = labeled[:, start] & labeled[:, end] & (lengths > 0)
        sizes[known] = lengths[known]
    return sizes
