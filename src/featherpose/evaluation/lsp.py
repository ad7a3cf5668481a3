"""Evaluation on LSP (Johnson and Everingham 2010): poses in the given boxes, PCK@0.2 of the torso.

A keypoint is correct when its error is at most 0.2 of the torso: the distance between the left shoulder and the right
hip as labeled. A person without these two has no torso and does not count. Labels are person-centric: left is the
person's left.

A model with LSP's keypoints gets the mean over all of them; one with another skeleton, such as COCO's, only that over
the twelve keypoints of arms and legs, by name. COCO places hips and shoulders differently, which costs it some points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import xywh_to_xyxy
from featherpose.evaluation.pck import pck
from featherpose.evaluation.pckh import PARTS
from featherpose.evaluation.persons import Found, or_none, predict_persons
from featherpose.evaluation.prediction import Predict
from featherpose.evaluation.result import Evaluation
from featherpose.records import Labels, PersonRecord, Tally, require_used
from featherpose.skeleton import LSP14, Skeleton

THRESHOLD = 0.2
"""Of the torso."""
TORSO = ("left_shoulder", "right_hip")
NO_TORSO = "without a labeled torso"


class Dataset(Protocol):
    """A labeled data set: its records, and the folder of its images."""

    @property
    def labels(self) -> Labels: ...
    @property
    def images(self) -> Path: ...


@dataclass(frozen=True)
class LspScores:
    """PCK at 0.2 of the torso, fractions 0 to 1; None where the model lacks the keypoint or nobody has it labeled."""

    parts: dict[str, float | None]
    """Head, shoulder, elbow, wrist, hip, knee, ankle; left and right have equal weight."""
    mean: float | None
    """Over all labeled keypoints; None for a model that lacks any of LSP's."""
    limbs: float | None
    """Over the labeled keypoints of arms and legs."""

    def to_dict(self) -> dict[str, float | None]:
        """Flat, for JSON and tables."""
        return {**self.parts, "pck": self.mean, "limbs": self.limbs}


def evaluate_lsp(
    dataset: Dataset, predict: Predict, skeleton: Skeleton, progress: Callable[[int, int], None] | None = None
) -> Evaluation[LspScores]:
    """Data set with LSP's keypoints, a function from images and boxes to Poses, and its skeleton -> Evaluation.

    Results, per person: `image`, `keypoints` (14 x 2 in image pixels, None where missed or unknown to the model).
    `progress` is called with the number of images done and the total.
    """
    labels = dataset.labels
    usable, counts = labels.usable()
    tally = Tally(counts.what)
    persons: list[PersonRecord] = []
    for person in usable:
        if torso(_keypoints(person)[None])[0] > 0:
            persons.append(person)
        else:
            tally.leave_out(NO_TORSO, person.place)
    counts = counts.less(tally)
    require_used(counts)
    names = [labels.images[person.image].name for person in persons]
    boxes = xywh_to_xyxy(np.array([person.box_xywh for person in persons], np.float32))
    found = predict_persons(dataset.images, names, boxes, LSP14, predict, skeleton, progress)
    truth = np.stack([_keypoints(person) for person in persons])
    return Evaluation(
        scores=_scores(found, truth),
        results=found.to_results(names),
        num_images=found.predictions.num_images,
        num_instances=found.num_instances,
        seconds=found.predictions.seconds,
        broken=found.predictions.broken,
        counts=(counts,),
    )


def torso(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels (N, 14, 3) x, y, visibility in pixels -> length of each torso (N,) in pixels, 0 where not labeled."""
    shoulder, hip = (keypoints[:, LSP14.keypoint_names.index(name)] for name in TORSO)
    length = np.linalg.norm(shoulder[:, :2] - hip[:, :2], axis=1)
    return np.where((shoulder[:, 2] > 0) & (hip[:, 2] > 0), length, 0.0)


def _keypoints(person: PersonRecord) -> NDArray[np.float64]:
    assert person.keypoints is not None  # Labels.usable
    return person.keypoints.astype(np.float64)


def _scores(found: Found, truth: NDArray[np.float64]) -> LspScores:
    visible = (truth[..., 2] > 0) & found.known
    length = torso(truth)
    whole = pck(found.keypoints, truth[..., :2], visible, length, THRESHOLD)
    of_limbs = pck(found.keypoints, truth[..., :2], visible, length, THRESHOLD, found.in_limbs(LSP14))
    by_name = dict(zip(LSP14.keypoint_names, whole.per_keypoint.tolist(), strict=True))
    return LspScores(
        parts={part: or_none(float(np.mean([by_name[name] for name in names]))) for part, names in PARTS.items()},
        mean=or_none(whole.mean) if found.known.all() else None,
        limbs=or_none(of_limbs.mean),
    )
