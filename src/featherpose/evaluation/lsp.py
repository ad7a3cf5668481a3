"""Evaluation on LSP (Johnson and Everingham 2010): poses in the given boxes, PCK@0.2 of the torso.

A keypoint is correct when its error is at most 0.2 of the torso's diagonal (`torso`). A person without one does not
count. Labels are person-centric: left is the person's left.

A model with LSP's keypoints gets the mean over all of them; one with another skeleton, such as COCO's, only that over
the twelve keypoints of arms and legs, by name. COCO places hips and shoulders differently, which costs it some points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import xywh_to_xyxy
from featherpose.data.dataset import Dataset
from featherpose.evaluation.diagnosis import diagnose_persons
from featherpose.evaluation.pck import pck
from featherpose.evaluation.pckh import PARTS
from featherpose.evaluation.persons import Found, or_none, predict_persons
from featherpose.evaluation.prediction import Predict
from featherpose.evaluation.result import ByImage, Evaluation
from featherpose.evaluation.torso import torso_sizes
from featherpose.records import PersonRecord, Tally, require_used
from featherpose.skeleton import LSP14, Skeleton

THRESHOLD = 0.2
"""Of the torso."""
NO_TORSO = "without a labeled torso"


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
    labeled = np.array([_keypoints(person) for person in usable]).reshape(-1, LSP14.num_keypoints, 3)
    lengths = torso_sizes(labeled[..., :2], labeled[..., 2], LSP14)
    has_torso = ~np.isnan(lengths)
    for row in np.flatnonzero(~has_torso):
        tally.leave_out(NO_TORSO, usable[row].place)
    persons = [usable[row] for row in np.flatnonzero(has_torso)]
    truth = labeled[has_torso]
    lengths = lengths[has_torso]
    counts = counts.less(tally)
    require_used(counts)
    names = [labels.images[person.image].name for person in persons]
    boxes = xywh_to_xyxy(np.array([person.box_xywh for person in persons], np.float32))
    found = predict_persons(dataset.images, names, boxes, LSP14, predict, skeleton, progress)
    visible = (truth[..., 2] > 0).astype(np.int64)

    def scores_of(images: NDArray[np.int64]) -> LspScores:
        return _scores(found, truth, lengths, np.concatenate([found.rows[image] for image in images]))

    return Evaluation(
        scores=_scores(found, truth, lengths, np.arange(len(truth))),
        results=found.to_results(names),
        num_images=found.predictions.num_images,
        num_instances=found.num_instances,
        seconds=found.predictions.seconds,
        broken=found.predictions.broken,
        warnings=found.predictions.notes,
        counts=(counts,),
        by_image=ByImage(len(found.rows), scores_of),
        diagnose=lambda: diagnose_persons(found, truth[..., :2], visible, lengths, LSP14, THRESHOLD, "PCK"),
    )


def _keypoints(person: PersonRecord) -> NDArray[np.float64]:
    assert person.keypoints is not None  # Labels.usable
    return person.keypoints.astype(np.float64)


def _scores(
    found: Found, truth: NDArray[np.float64], lengths: NDArray[np.float64], rows: NDArray[np.int64]
) -> LspScores:
    """What was found, labels (N, 14, 3), torsos (N,), and rows -> their scores."""
    predicted = found.keypoints[rows]
    labeled = truth[rows]
    visible = (labeled[..., 2] > 0) & found.known
    whole = pck(predicted, labeled[..., :2], visible, lengths[rows], THRESHOLD)
    of_limbs = pck(predicted, labeled[..., :2], visible, lengths[rows], THRESHOLD, found.in_limbs(LSP14))
    by_name = dict(zip(LSP14.keypoint_names, whole.per_keypoint.tolist(), strict=True))
    return LspScores(
        parts={part: or_none(float(np.mean([by_name[name] for name in names]))) for part, names in PARTS.items()},
        mean=or_none(whole.mean) if found.known.all() else None,
        limbs=or_none(of_limbs.mean),
    )
