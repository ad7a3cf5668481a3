"""Labeled persons and the pose found for each: what the diagnosis and the calibration of scores look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.evaluation.coco import MAX_PERSONS
from featherpose.formats.values import id_key
from featherpose.oks import oks
from featherpose.records import Labels, PersonRecord

MATCHED = 0.1
"""Lowest OKS of a pose with its person, as in the analysis of Ronchi and Perona (2017)."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """P labeled persons, in the order of their images; keypoints in image pixels."""

    keypoints: NDArray[np.float64]
    """(P, K, 2) as labeled."""
    visibility: NDArray[np.int64]
    """(P, K) 0 not labeled, 1 labeled but hidden, 2 visible."""
    predicted: NDArray[np.float64]
    """(P, K, 2); inf where nothing was predicted."""
    scores: NDArray[np.float64]
    """(P, K) of the predicted keypoints; nan where nothing was predicted or the score is not known."""
    scales: NDArray[np.float64]
    """(P,) length to which the errors of a person are relative, in pixels."""
    images: NDArray[np.int64]
    """(P,) index of each person's image."""
    results: NDArray[np.int64]
    """(P,) index of each person's result; -1 where no pose was found."""

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(P, K) whether the keypoint is labeled."""
        return self.visibility > 0

    @property
    def found(self) -> NDArray[np.bool_]:
        """(P,) whether a pose was found."""
        return self.results >= 0


def match_persons(labels: Labels, results: Sequence[Mapping[str, Any]]) -> Pairs:
    """Labels and COCO keypoint results -> the persons with a pose to find, each with the pose matched to it.

    Matched as COCO does, at an OKS of 0.1: the poses of an image, best score first and at most 20, each take the
    person left with the highest OKS. The scale of a person is the square root of the area.
    """
    persons, _ = labels.usable()
    persons.sort(key=lambda person: person.image)
    num_keypoints = labels.skeleton.num_keypoints
    values = np.array([_keypoints(person) for person in persons], np.float64).reshape(-1, num_keypoints, 3)
    areas = np.array([person.known_area for person in persons], np.float64)
    images = np.array([person.image for person in persons], np.int64)
    poses = np.array([result["keypoints"] for result in results], np.float64).reshape(-1, num_keypoints, 3)

    by_image: defaultdict[str, list[int]] = defaultdict(list)
    for number, result in enumerate(results):
        by_image[id_key(result["image_id"])].append(number)
    matched = np.full(len(persons), -1)
    for image in np.unique(images):
        rows = np.flatnonzero(images == image)
        numbers = by_image[id_key(labels.images[image].id)]
        best_first = sorted(numbers, key=lambda number: -results[number]["score"])[:MAX_PERSONS]
        similarity = np.array(
            [
                oks(values[row, :, :2], poses[best_first, :, :2], areas[row], labels.skeleton.sigmas, values[row, :, 2])
                for row in rows
            ]
        )
        for person, pose in _greedy(similarity):
            matched[rows[person]] = best_first[pose]

    found = matched >= 0
    predicted = np.full((len(persons), num_keypoints, 3), (np.inf, np.inf, np.nan))
    predicted[found] = poses[matched[found]]
    return Pairs(
        keypoints=values[..., :2],
        visibility=values[..., 2].astype(np.int64),
        predicted=predicted[..., :2],
        scores=predicted[..., 2],
        scales=np.sqrt(areas + np.spacing(1)),
        images=images,
        results=matched,
    )


def _keypoints(person: PersonRecord) -> NDArray[np.float32]:
    assert person.keypoints is not None, "Labels.usable leaves out the others"
    return person.keypoints


def _greedy(similarity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """OKS (persons, poses), the best pose first -> pairs of a person and a pose."""
    free = np.ones(len(similarity), bool)
    pairs: list[tuple[int, int]] = []
    for pose, column in enumerate(similarity.T):
        left = np.where(free, column, -1)
        person = int(left.argmax())
        if left[person] >= MATCHED:
            free[person] = False
            pairs.append((person, pose))
    return pairs
