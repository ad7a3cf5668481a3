"""Pseudo-labels: a teacher's keypoints for every sample, used for the keypoints that its data set does not label.

MPII and LSP have no eyes and ears, and place hips and shoulders differently from COCO: these keypoints come from the
teacher where it is confident. Human labels are never changed; those of a noisy data set can be left out where the
teacher predicts the keypoint far away.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose.data.sample import Sample
from featherpose.errors import DataError
from featherpose.skeleton import COCO17, Skeleton, map_keypoints

Floats = NDArray[np.float32]
Labels = dict[str, tuple[Floats, Floats]]  # key -> keypoints (17, 2) in pixels of the stored image, scores (17,)
FILE = "teacher-labels.npz"
NOISY = ("lspet", "lspetrest")
"""Sources labeled by crowd workers: their labels are used only where the teacher does not contradict them."""
TOLERANCE = 0.05
"""A label further from the teacher's keypoint than this fraction of the box's larger side is contradicted: about one
in ten of LSPET's, whose worst persons were removed from pose-train beforehand."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Training targets of N samples, in COCO's 17 keypoints: keypoints (N, 17, 2), weights (N, 17) in 0..1."""

    keypoints: Floats
    weights: Floats


def teacher_labels(folder: Path | str) -> Labels:
    """Folder with `teacher-labels.npz` -> pseudo-labels of every key, in COCO's order: keypoints (17, 2), scores (17,).

    DataError when the file is missing, damaged or of other shapes.
    """
    path = Path(folder) / FILE
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            keys = arrays["keys"]
            keypoints = arrays["keypoints"]
            scores = arrays["scores"]
        if keypoints.shape != (len(keys), 17, 2) or scores.shape != (len(keys), 17):
            raise ValueError(f"{len(keys)} keys, keypoints {keypoints.shape}, scores {scores.shape} do not match")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no {FILE} in {folder}; put it there or train without a teacher (data.labels=ground_truth)."
        ) from None
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read {path}: {error}; wanted arrays keys (N), keypoints (N, 17, 2), scores (N, 17)."
        ) from error
    return {str(key): (points, score) for key, points, score in zip(keys, keypoints, scores, strict=True)}


def pseudo_labels(samples: Sequence[Sample], labels: Labels) -> tuple[Floats, Floats]:
    """N samples -> the teacher's keypoints (N, 17, 2) and scores (N, 17), in the order of the samples.

    The score is 0 where there is no pseudo-label, or where it is outside the image and thus not based on any pixel.
    """
    no_label = (np.zeros((17, 2), np.float32), np.zeros(17, np.float32))
    found = [labels.get(sample.key, no_label) for sample in samples]
    # Reshaped, so that the arrays have all their axes without samples, too.
    keypoints = np.array([points for points, _ in found], np.float32).reshape(-1, 17, 2)
    scores = np.array([score for _, score in found], np.float32).reshape(-1, 17)
    sizes = np.array([sample.size.xy for sample in samples], np.float32).reshape(-1, 1, 2)
    inside = ((keypoints >= -0.5) & (keypoints <= sizes - 0.5)).all(-1)  # pixel centers are whole numbers
    return keypoints, np.where(inside, scores, 0).astype(np.float32)


def map_samples(samples: Sequence[Sample], skeleton: Skeleton = COCO17) -> tuple[Floats, NDArray[np.uint8]]:
    """N samples -> keypoints (N, K, 2) and visibility (N, K) mapped to `skeleton`; v is 0 for keypoints they lack."""
    keypoints = np.zeros((len(samples), skeleton.num_keypoints, 2), np.float32)
    visibility = np.zeros((len(samples), skeleton.num_keypoints), np.uint8)
    # Rows of one skeleton together: the mapping is one for all of them.
    for source in {sample.skeleton for sample in samples}:
        rows = [row for row, sample in enumerate(samples) if sample.skeleton == source]
        points = np.stack([samples[row].keypoints for row in rows])
        visible = np.stack([samples[row].visibility for row in rows])
        keypoints[rows], visibility[rows] = map_keypoints(points, visible, source, skeleton)
    return keypoints, visibility


def fill_gaps(
    keypoints: Floats,
    visibility: NDArray[np.uint8],
    teacher_keypoints: Floats,
    teacher_scores: Floats,
    threshold: float = 0.3,
) -> tuple[Floats, Floats]:
    """(..., K, 2) and (..., K) of labels and teacher -> keypoints (..., K, 2), weights (..., K) in 0..1.

    Labeled keypoints (v > 0) keep their position, with weight 1. The others get the teacher's position, with its score
    as weight where that is above `threshold` and weight 0 elsewhere.
    """
    labeled = visibility > 0
    filled = ~labeled & (teacher_scores > threshold)
    # Maxima of heatmaps may exceed 1.
    teacher_weights = np.where(filled, np.minimum(teacher_scores, 1.0), 0.0)
    weights = np.where(labeled, 1.0, teacher_weights)
    targets = np.where(filled[..., None], teacher_keypoints, keypoints)
    return targets.astype(np.float32), weights.astype(np.float32)


def contradicted(
    keypoints: Floats,
    visibility: NDArray[np.uint8],
    teacher_keypoints: Floats,
    teacher_scores: Floats,
    boxes_xywh: Floats,
    threshold: float = 0.3,
    tolerance: float = TOLERANCE,
) -> NDArray[np.bool_]:
    """Labels and teacher as in `fill_gaps`, boxes (..., 4) -> (..., K) labels that a confident teacher contradicts.

    A label is contradicted when its distance to the teacher's keypoint exceeds `tolerance` x the box's larger side and
    the teacher's score exceeds `threshold`.
    """
    distance = np.linalg.norm(keypoints - teacher_keypoints, axis=-1)
    limit = tolerance * boxes_xywh[..., 2:].max(-1, keepdims=True)
    return (visibility > 0) & (teacher_scores > threshold) & (distance > limit)


def pseudo_targets(samples: Sequence[Sample], labels: Labels, threshold: float = 0.3) -> Targets:
    """N samples and the teacher's `labels` -> Targets from the teacher alone.

    The weight is the teacher's score where it is above `threshold`, else 0.
    """
    keypoints, scores = pseudo_labels(samples, labels)
    # As if no person had labeled anything.
    nothing_labeled = np.zeros(scores.shape, np.uint8)
    return Targets(*fill_gaps(keypoints, nothing_labeled, keypoints, scores, threshold))


def coco_targets(
    samples: Sequence[Sample],
    labels: Labels | None = None,
    threshold: float = 0.3,
    noisy: Collection[str] = NOISY,
) -> Targets:
    """N samples of any skeleton -> Targets in COCO's keypoints, unlabeled ones filled from pseudo-labels if given.

    In the sources in `noisy`, labels that the teacher contradicts get weight 0.
    """
    keypoints, visibility = map_samples(samples)
    teacher = pseudo_labels(samples, labels or {})
    filled, weights = fill_gaps(keypoints, visibility, *teacher, threshold)
    boxes = np.array([sample.box_xywh for sample in samples], np.float32).reshape(-1, 4)
    noisy_rows = np.array([sample.source in noisy for sample in samples], bool)[:, None]
    wrong = noisy_rows & contradicted(keypoints, visibility, *teacher, boxes, threshold)
    weights[wrong] = 0  # not the teacher's keypoint either: one of the two is wrong
    return Targets(filled, weights)
