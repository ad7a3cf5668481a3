"""What is wrong with predicted keypoints: overall accuracy, confusion matrix, kinds of error and what each costs.

*Confusion matrix.* One row per type of keypoint. Each labeled keypoint adds one to its row, in the column of what its
prediction falls on: the nearest labeled keypoint within a radius, of the same person (a column per type) or of another
person (one column), or nothing. A person without a pose adds to the column of nothing. So a row sums to the labeled
keypoints of its type, and the *overall accuracy* is the sum of the diagonal divided by the sum of all. The radius is
that of the row's type: the distance at which the similarity of one keypoint is 0.5 (`oks_radii`), or a part of a
length, as in PCK. Distances are relative to the person on whose keypoint the prediction falls.

*Kinds of error* (Ronchi and Perona, Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, 2017, section
3.1), of the labeled keypoints of persons with a pose, by the similarity (OKS of one keypoint) of the prediction with
four sorts of place: the right one, the same keypoint of another person, and in both persons its left or right partner.
The most similar place decides:

    good        the right one, at least 0.85
    jitter      the right one, from 0.5 to 0.85
    inversion   the partner of the same person, at least 0.5
    swap        another person, at least 0.5
    miss        nowhere 0.5

*AP gained.* Keypoints of one kind are moved to where they are as similar to the right place as they were to the wrong
one (inversion, swap), 0.85 (jitter) or 0.5 (miss), and AP is computed again. The authors' program uses half the sigma
for this and so moves them closer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.evaluation.coco import keypoint_ap
from featherpose.evaluation.pairs import Pairs
from featherpose.records import Labels
from featherpose.skeleton import Skeleton

NEAR = 0.5
"""Similarity within which a prediction falls on a keypoint."""
GOOD = 0.85
"""Similarity that two annotators of one keypoint reach."""
KINDS = ("good", "jitter", "inversion", "swap", "miss")
OTHERS = ("another person", "nothing")
"""Columns of the confusion matrix behind those of the keypoints."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """On what the labeled keypoints' predictions fall."""

    keypoint_names: tuple[str, ...]
    counts: NDArray[np.int64]
    """(K, K + 2): rows are labeled keypoints; columns the keypoints of the same person, then `OTHERS`."""
    radius: str
    """In words."""

    @property
    def overall_accuracy(self) -> float:
        """Fraction of the labeled keypoints whose prediction falls on them; nan where none is labeled."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "overall_accuracy": self.overall_accuracy if self.counts.any() else None,
            "radius": self.radius,
            "rows": list(self.keypoint_names),
            "columns": [*self.keypoint_names, *OTHERS],
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True)
class Breakdown:
    """Kinds of error of the labeled keypoints of persons with a pose."""

    counts: Mapping[str, int]
    """By kind."""
    ap_gained: Mapping[str, float]
    """By kind of error: fraction by which AP rises if the errors of this kind alone are corrected."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"counts": dict(self.counts), "ap_gained": dict(self.ap_gained)}


def oks_radii(sigmas: ArrayLike, similarity: float = NEAR) -> NDArray[np.float64]:
    """Sigmas (K,) -> radii (K,) at which a keypoint has this similarity, relative to the square root of the area."""
    return 2 * np.asarray(sigmas, np.float64) * sqrt(-2 * log(similarity))


def confusion(pairs: Pairs, radii: ArrayLike, keypoint_names: Sequence[str], radius: str) -> Confusion:
    """Persons with their poses, and radii (K,) relative to the persons' scales -> Confusion; `radius` in words."""
    num_keypoints = pairs.labeled.shape[1]
    nothing = num_keypoints + OTHERS.index("nothing")
    counts = np.zeros((num_keypoints, num_keypoints + len(OTHERS)), np.int64)
    for rows in _by_image(pairs):
        columns = _columns(pairs, rows, np.asarray(radii, np.float64), nothing)
        labeled = pairs.labeled[rows]
        types = np.broadcast_to(np.arange(num_keypoints), labeled.shape)
        np.add.at(counts, (types[labeled], columns[labeled]), 1)
    return Confusion(tuple(keypoint_names), counts, radius)


def _columns(pairs: Pairs, rows: NDArray[np.int64], radii: NDArray[np.float64], nothing: int) -> NDArray[np.int64]:
    """The persons of an image -> (G, K) column on which each prediction falls."""
    distances = _distances(pairs, rows) / radii[None, :, None, None]  # (G, K, G, K)
    persons = np.arange(len(rows))
    own = distances[persons, :, persons]  # (G, K, K) to the keypoints of the same person
    others = distances.copy()
    others[persons, :, persons] = np.inf
    to_other = others.min(axis=(2, 3))
    to_right = np.diagonal(own, axis1=1, axis2=2)
    # What is equally near as the right place is in the right place.
    column = np.where(to_right <= own.min(axis=2), np.arange(own.shape[1]), own.argmin(axis=2))
    to_own = own.min(axis=2)
    column = np.where(to_own <= to_other, column, nothing - 1)
    return np.where(np.minimum(to_own, to_other) <= 1, column, nothing)


def _distances(pairs: Pairs, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The persons of an image -> (G, K, G, K): each prediction to each labeled keypoint, relative to the latter's
    person; inf where it is not labeled."""
    offsets = pairs.predicted[rows][:, :, None, None] - pairs.keypoints[rows]
    distances = np.linalg.norm(offsets, axis=-1) / pairs.scales[rows][:, None]
    return np.where(pairs.labeled[rows], distances, np.inf)


def _by_image(pairs: Pairs) -> list[NDArray[np.int64]]:
    """Rows of the persons of each image."""
    if not len(pairs.images):
        return []
    ends = np.flatnonzero(np.diff(pairs.images)) + 1
    return np.split(np.arange(len(pairs.images)), ends)


def breakdown(labels: Labels, results: Sequence[Mapping[str, Any]], pairs: Pairs) -> Breakdown:
    """Labels, COCO keypoint results, and the persons matched with them -> Breakdown."""
    kinds, similarity = kinds_of(pairs, labels.skeleton)
    before = keypoint_ap(labels, results).ap
    gained: dict[str, float] = {}
    for kind in KINDS[1:]:
        better = corrected(results, pairs, kinds == KINDS.index(kind), _target(kind, similarity), labels.skeleton)
        gained[kind] = keypoint_ap(labels, better).ap - before
    return Breakdown({kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)}, gained)


def kinds_of(pairs: Pairs, skeleton: Skeleton) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Persons with their poses -> index into `KINDS` (P, K), -1 where the keypoint is not labeled or the person has no
    pose, and similarity (P, K) with the most similar place."""
    kinds = np.full(pairs.labeled.shape, -1)
    most_similar = np.zeros(pairs.labeled.shape)
    spread = 2 * np.asarray(skeleton.sigmas)
    every = np.arange(skeleton.num_keypoints)
    for rows in _by_image(pairs):
        relative = _distances(pairs, rows) / spread[None, :, None, None]
        similarity = np.exp(-(relative**2) / 2)
        persons = np.arange(len(rows))
        at_same = similarity[:, every, :, every].transpose(1, 0, 2)  # (G, K, G)
        at_partner = similarity[:, every, :, skeleton.flip_order].transpose(1, 0, 2)
        right = at_same[persons, :, persons]  # (G, K)
        partner = at_partner[persons, :, persons]
        at_same[persons, :, persons] = 0
        at_partner[persons, :, persons] = 0
        other = np.maximum(at_same, at_partner).max(axis=2)
        best = np.maximum(np.maximum(right, partner), other)
        kind = np.select(
            [best < NEAR, (right >= best) & (best >= GOOD), right >= best, partner > other],
            [KINDS.index("miss"), KINDS.index("good"), KINDS.index("jitter"), KINDS.index("inversion")],
            KINDS.index("swap"),
        )
        kinds[rows] = np.where(pairs.labeled[rows] & pairs.found[rows][:, None], kind, -1)
        most_similar[rows] = best
    return kinds, most_similar


def _target(kind: str, similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kind of error, and similarity (P, K) with the most similar place -> similarity with the right one, corrected."""
    fixed = {"jitter": GOOD, "miss": NEAR}
    return np.full_like(similarity, fixed[kind]) if kind in fixed else similarity


def corrected(
    results: Sequence[Mapping[str, Any]],
    pairs: Pairs,
    wrong: NDArray[np.bool_],
    similarity: NDArray[np.float64],
    skeleton: Skeleton,
) -> list[Mapping[str, Any]]:
    """COCO results and the persons matched with them -> copies in which the keypoints that are `wrong` (P, K) lie so
    far to the right of their place that they have `similarity` (P, K) with it."""
    better = list(results)
    for row in np.flatnonzero(wrong.any(axis=1)):
        number = int(pairs.results[row])
        keypoints = np.reshape(results[number]["keypoints"], (-1, 3)).astype(np.float64)
        radii = np.sqrt(-2 * np.log(similarity[row, wrong[row]])) * 2 * np.asarray(skeleton.sigmas)[wrong[row]]
        keypoints[wrong[row], :2] = pairs.keypoints[row, wrong[row]]
        keypoints[wrong[row], 0] += radii * pairs.scales[row]
        better[number] = {**results[number], "keypoints": keypoints.ravel().tolist()}
    return better
