"""MPII's metric: PCKh, the fraction of keypoints within a fraction of the head size (Andriluka et al. 2014).

Equal to the evaluation published with HRNet. That code reports a figure as Mean@0.1 but computes it at 0.11 (the
eleventh step of 0, 0.01, ...); here the threshold is always the one given. Predictions and labels are both in 0-based
pixels; MPII's files count from 1, so subtract 1 first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import DataError
from featherpose.evaluation.pck import pck
from featherpose.formats.mpii_mat import HEAD_BOX_TO_SIZE
from featherpose.skeleton import MPII16

NOT_IN_MEAN = ("pelvis", "thorax")

PARTS: Mapping[str, tuple[str, ...]] = {
    "head": ("head_top",),
    **{part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""Columns of the published table; left and right have equal weight, however often each is labeled."""


@dataclass(frozen=True)
class Pckh:
    """PCKh at one threshold, fractions 0 to 1; nan where nothing is labeled."""

    threshold: float
    per_keypoint: NDArray[np.float64]  # (16,), order of MPII16
    mean: float  # weighted by how often each keypoint is labeled; without pelvis and thorax

    @property
    def parts(self) -> dict[str, float]:
        """The published columns: head, shoulder, elbow, wrist, hip, knee, ankle, each the mean of left and right."""
        return {
            part: float(np.mean([self.per_keypoint[MPII16.keypoint_names.index(keypoint)] for keypoint in keypoints]))
            for part, keypoints in PARTS.items()
        }


def pckh(
    predicted: ArrayLike, keypoints: ArrayLike, visible: ArrayLike, head_sizes: ArrayLike, threshold: float = 0.5
) -> Pckh:
    """Predicted keypoints and truth (N, 16, 2), both 0-based px, visible (N, 16), head sizes (N,) in px -> Pckh.

    A keypoint is correct when its error is at most `threshold` x the head size, which `head_sizes()` computes.
    """
    if np.shape(visible)[1:] != (MPII16.num_keypoints,):
        raise DataError(f"PCKh needs MPII's 16 keypoints; `visible` has shape {np.shape(visible)}.")
    in_mean = [keypoint not in NOT_IN_MEAN for keypoint in MPII16.keypoint_names]
    return Pckh(threshold, *pck(predicted, keypoints, visible, head_sizes, threshold, in_mean))


def head_sizes(head_boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Head boxes (N, 4) left, top, right, bottom -> head sizes (N,), 0.6 of the diagonal, in the boxes' pixels."""
    boxes = np.asarray(head_boxes_xyxy, np.float64)
    return HEAD_BOX_TO_SIZE * np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=-1)
