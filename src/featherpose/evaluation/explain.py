"""The evaluator explains itself: mistakes in data or results that make scores low while the poses are right.

Each check compares labels with results and says what was seen. A model that is merely bad causes no warning: an
explanation must fit the poses closely. Boxes with two corners in place of a corner and a size are found where they are
read (`meaning.CHECKS`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.formats.values import id_key
from featherpose.oks import oks
from featherpose.records import Labels, PersonRecord, some
from featherpose.size import Size
from featherpose.skeleton import Skeleton

CLOSE = 0.05
"""Median error of a good model, relative to the side of a square with the box's area."""
FAR = 0.1
"""Median error from which on another explanation is looked for."""
FITS = 0.15
"""Largest median error of an explanation; it must also halve the error without it."""
FEW = 3
"""Persons with a keypoint, at least, to say where it is predicted."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Person:
    """A labeled person and all poses of the image."""

    truth: Points
    """(K, 2)."""
    labeled: NDArray[np.bool_]
    """(K,)."""
    poses: Points
    """(M, K, 2), M > 0."""
    box_xywh: NDArray[np.float32]
    image_size: Size | None
    area: float

    @property
    def side(self) -> float:
        """Of a square with the box's area."""
        return max(float(np.sqrt(self.box_xywh[2] * self.box_xywh[3])), 1e-9)

    def nearest(self, expected: Points) -> tuple[int, float]:
        """Where the keypoints are expected (K, 2) -> index of the nearest pose, and its median error in pixels."""
        errors = np.linalg.norm(self.poses[:, self.labeled] - expected[self.labeled], axis=-1)
        medians = np.median(errors, axis=1)
        best = int(medians.argmin())
        return best, float(medians[best])


def explain(labels: Labels, persons: Sequence[PersonRecord], results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Labels, the persons evaluated and COCO results -> what looks wrong about the data or results, a sentence each."""
    found = list(_with_poses(labels, persons, results))
    if not found:
        return
    skeleton = labels.skeleton
    sentence = _wrong_scale(found, skeleton) or _mirrored(found, skeleton) or _permuted(found, skeleton)
    if sentence:
        yield sentence


def _with_poses(
    labels: Labels, persons: Sequence[PersonRecord], results: Sequence[Mapping[str, Any]]
) -> Iterator[_Person]:
    """The persons in whose image there is a pose."""
    poses: defaultdict[str, list[Any]] = defaultdict(list)
    for result in results:
        poses[id_key(result["image_id"])].append(result["keypoints"])
    for person in persons:
        image = labels.images[person.image]
        assert person.keypoints is not None, "Labels.usable leaves out the others"
        assert person.box_xywh is not None, "Labels.usable leaves out the others"
        if found := poses.get(id_key(image.id)):
            yield _Person(
                truth=person.keypoints[:, :2].astype(np.float64),
                labeled=person.keypoints[:, 2] > 0,
                poses=np.reshape(found, (-1, len(person.keypoints), 3))[..., :2],
                box_xywh=person.box_xywh,
                image_size=image.size,
                area=person.known_area,
            )


def _wrong_scale(persons: Sequence[_Person], skeleton: Skeleton) -> str | None:
    """A warning when OKS and pixel errors disagree.

    Keypoints within a twentieth of the box's side belong to the right person, whatever the OKS.
    """
    rows: list[tuple[float, float, float]] = []
    for person in persons:
        best, error = person.nearest(person.truth)
        pose = person.poses[best : best + 1]
        similarity = oks(person.truth, pose, person.area, skeleton.sigmas, person.labeled)[0]
        rows.append((float(similarity), error, error / person.side))
    similarity, pixels, share = np.median(rows, axis=0)
    if similarity < 0.1 and share < CLOSE:
        return f"OKS is {similarity:.2f} but the error is {pixels:.1f} px: area (too small) or sigmas look wrong."
    if similarity > 0.9 and share > 0.25:
        return f"OKS is {similarity:.2f} but the error is {pixels:.1f} px: area (too large) or sigmas look wrong."
    return None


def _mirrored(persons: Sequence[_Person], skeleton: Skeleton) -> str | None:
    """A warning when poses lie where the mirrored persons would be."""
    unexplained = _error(persons, lambda person: person.truth)
    if unexplained < FAR:
        return None
    in_image = [person for person in persons if person.image_size is not None]
    for place, some_persons, mirror in (("image", in_image, _mirrored_in_image), ("box", persons, _mirrored_in_box)):
        for exchanged in (False, True):
            order = skeleton.flip_order if exchanged else np.arange(skeleton.num_keypoints)
            error = _error(some_persons, lambda person, m=mirror, o=order: _reordered(person, m(person), o))
            if error < min(FITS, unexplained / 2):
                sides = "and their left and right exchanged " if exchanged else ""
                return (
                    f"Predictions are mirrored: they fit the labels if x is measured from the other side of the {place}"
                    f" {sides}(median error {100 * error:.0f} % of the box's side). Was the image flipped, and the"
                    " result not flipped back?"
                )
    return None


def _error(persons: Sequence[_Person], expected: Callable[[_Person], Points]) -> float:
    """Median over persons of the nearest pose's error, relative to the side of the box; inf without persons."""
    errors = [person.nearest(expected(person))[1] / person.side for person in persons]
    return float(np.median(errors)) if errors else float("inf")


def _reordered(person: _Person, points: Points, order: NDArray[np.int64]) -> Points:
    """Keypoints (K, 2) in another order, without the moves that need a keypoint which is not labeled."""
    moved = points[order]
    return np.where((person.labeled[order] | ~person.labeled)[:, None], moved, points)


def _mirrored_in_image(person: _Person) -> Points:
    assert person.image_size is not None
    return np.column_stack([person.image_size.width - 1 - person.truth[:, 0], person.truth[:, 1]])


def _mirrored_in_box(person: _Person) -> Points:
    left, _, width, _ = person.box_xywh.tolist()
    return np.column_stack([2 * left + width - person.truth[:, 0], person.truth[:, 1]])


def _permuted(persons: Sequence[_Person], skeleton: Skeleton) -> str | None:
    """A warning when predicted keypoints lie on labeled ones of other names, one for one."""
    distances = _distances_between_types(persons, skeleton.num_keypoints)
    order = _assignment(distances)
    every = np.arange(len(order))
    moved = np.flatnonzero(order != every)
    if not len(moved):
        return None
    before = distances[moved, moved].mean()
    after = distances[moved, order[moved]].mean()
    if after > min(FITS, before / 2) or before - after < CLOSE:
        return None
    if np.array_equal(order[moved], skeleton.flip_order[moved]):
        return (
            f"Keypoint order looks permuted: left and right are exchanged in {len(moved)} keypoints. Write them in the"
            " order of the data set; left is the person's own left."
        )
    names = skeleton.keypoint_names
    pairs = [f"{names[predicted]} lies on {names[order[predicted]]}" for predicted in moved]
    return (
        f"Keypoint order looks permuted: predicted {some(pairs)}. Write keypoints in the order of the data set:"
        f" {', '.join(names)}."
    )


def _distances_between_types(persons: Sequence[_Person], num_keypoints: int) -> Points:
    """(K, K): median distance of each predicted keypoint to each labeled one, relative to the box's side.

    A person's pose is the one around the same place. A type that fewer than `FEW` persons have labeled stays itself.
    """
    rows: list[Points] = []
    for person in persons:
        centers = person.poses.mean(axis=1)
        place = person.truth[person.labeled].mean(axis=0)
        pose = person.poses[int(np.linalg.norm(centers - place, axis=1).argmin())]
        apart = np.linalg.norm(pose[:, None] - person.truth, axis=-1) / person.side
        rows.append(np.where(person.labeled, apart, np.nan))
    stacked = np.array(rows)
    known = (~np.isnan(stacked[:, 0])).sum(axis=0) >= FEW
    distances = np.where(np.eye(num_keypoints, dtype=bool), 0.0, np.inf)
    distances[:, known] = np.nanmedian(stacked[..., known], axis=0)
    distances[~known] = np.where(np.eye(num_keypoints, dtype=bool), 0.0, np.inf)[~known]
    return distances


def _assignment(distances: Points) -> NDArray[np.int64]:
    """Distances (K, K) -> the labeled type (K,) of each predicted one, one for one, with the least sum."""
    from scipy.optimize import linear_sum_assignment

    _, order = linear_sum_assignment(np.where(np.isinf(distances), 1e6, distances))
    return np.asarray(order, np.int64)
