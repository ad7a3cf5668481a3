"""Tracking: poses of one frame after the other -> the same poses with ids that stay with the persons.

Two rounds of matching, strong poses first, as in ByteTrack (Zhang et al. 2022, section 3), on OKS and IoU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import iou
from featherpose.errors import InputError
from featherpose.oks import BOX_TO_OUTLINE, oks
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.size import Size
from featherpose.skeleton import OTHER_SIGMA, Skeleton

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrackerSettings:
    """How persons are matched between frames.

    Times are in s, lengths relative to the person's size, the square root of the area of the box.
    """

    strong_score: float = 0.2
    """Poses with this person score are matched first, and only they begin a track."""
    min_similarity: float = 0.3
    """Mean of OKS and IoU below which a pose is not the person of a track."""
    sigma_factor: float = 2.0
    """The sigmas of OKS, which describe annotators' errors, are enlarged: persons move between frames."""
    keep_seconds: float = 2.5
    """A track without a pose is kept this long."""
    min_seen: int = 2
    """A track with fewer poses than this is not kept when it is missed: it may be no person."""
    search_radius: float = 0.4
    """How far from the predicted place a lost person may appear at once, ..."""
    search_speed: float = 1.0
    """... and by how much that radius grows per second."""
    max_size_ratio: float = 1.5
    """How much larger or smaller a lost person may be when found again."""
    velocity_seconds: float = 0.2
    """Time constant of the average of the velocity."""


@dataclass
class Track:
    """The last pose of a person, and how it moves."""

    id: int
    pose: Poses
    """N = 1; where it was at `timestamp`."""
    timestamp: float
    """s."""
    velocity: Array
    """(2,) x, y in pixels per second."""
    num_seen: int = 1

    def shift(self, timestamp: float) -> Array:
        """Time in s -> (2,) distance in pixels that the person has moved since its last pose, at constant velocity."""
        return self.velocity * (timestamp - self.timestamp)

    @property
    def size(self) -> float:
        """Square root of the area of the box, in pixels."""
        return float(_sizes(self.pose)[0])


class Tracker:
    """Gives persons ids, frame after frame. No id is given twice, also not after a person is lost.

    `tracks` are the persons that are seen or kept. When the size of the frames changes, they are scaled.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.tracks: list[Track] = []
        self._next_id = 1
        self._timestamp = -np.inf
        self._image_size: Size | None = None

    def __call__(self, poses: Poses, timestamp: float) -> Poses:
        """Poses of the next frame and its time in s -> those that belong to a track, in order, with ids.

        A weak pose that fits no track is left out. InputError for a time before that of the last frame.
        """
        if not timestamp >= self._timestamp:
            raise InputError(
                f"The frame is from {timestamp} s, after one from {self._timestamp} s; wanted them in order."
            )
        self._timestamp = timestamp
        self._scale_to(poses.image_size)
        owners = self._match(poses, timestamp)
        strong = poses.person_scores >= self.settings.strong_score
        for row in range(len(poses)):
            track = owners.get(row)
            if track is not None:
                self._update(track, poses[row], timestamp, strong=bool(strong[row]))
            elif strong[row]:
                owners[row] = self._begin(poses[row], timestamp)
        self.tracks = [track for track in self.tracks if self._is_kept(track, timestamp)]
        rows = sorted(owners)
        ids = np.array([owners[row].id for row in rows], np.int64)
        return replace(poses[rows], ids=ids)

    def _match(self, poses: Poses, timestamp: float) -> dict[int, Track]:
        """Poses -> the track of each row that has one."""
        owners: dict[int, Track] = {}
        strong = poses.person_scores >= self.settings.strong_score
        # Weak poses, of persons who are partly hidden, get what the strong ones leave.
        for chosen in (strong, ~strong):
            free = self._without(owners)
            rows = np.flatnonzero(chosen)
            similarity = self._similarity(free, poses[rows], timestamp)
            owners |= _pairs(similarity, self.settings.min_similarity, rows, free)
        # Who was hidden comes back somewhere near the predicted place, in a similar size, but in another pose.
        lost = [track for track in self._without(owners) if track.num_seen >= self.settings.min_seen]
        rows = np.array([row for row in np.flatnonzero(strong).tolist() if row not in owners], np.int64)
        closeness = self._closeness(lost, poses[rows], timestamp)
        return owners | _pairs(closeness, 0.0, rows, lost)

    def _without(self, owners: dict[int, Track]) -> list[Track]:
        taken = {track.id for track in owners.values()}
        return [track for track in self.tracks if track.id not in taken]

    def _similarity(self, tracks: list[Track], poses: Poses, timestamp: float) -> Array:
        """T tracks and N poses -> (T, N) mean of OKS and IoU with the predicted poses, 0 to 1."""
        if not tracks or not len(poses):
            return np.zeros((len(tracks), len(poses)))
        shifts = np.stack([track.shift(timestamp) for track in tracks])  # (T, 2)
        boxes = np.concatenate([track.pose.boxes_xyxy for track in tracks]) + np.tile(shifts, 2)
        keypoints = np.concatenate([track.pose.keypoints for track in tracks]) + shifts[:, None]  # (T, K, 2)
        seen = np.concatenate([_confident(track.pose) for track in tracks])  # (T, K)
        both = seen[:, None] & _confident(poses)[None]  # (T, N, K)
        areas = BOX_TO_OUTLINE * np.array([track.size for track in tracks]) ** 2  # (T,)
        sigmas = self.settings.sigma_factor * _sigmas(poses.skeleton)
        points = np.nan_to_num(poses.keypoints)
        of_keypoints = oks(np.nan_to_num(keypoints)[:, None], points[None], areas[:, None], sigmas, both)
        of_boxes = iou(np.nan_to_num(boxes), np.nan_to_num(poses.boxes_xyxy))
        return (of_keypoints + of_boxes) / 2

    def _closeness(self, tracks: list[Track], poses: Poses, timestamp: float) -> Array:
        """T lost tracks and N poses -> (T, N): 1 at the predicted place, 0 where too far or of another size."""
        if not tracks or not len(poses):
            return np.zeros((len(tracks), len(poses)))
        settings = self.settings
        places = np.concatenate([_centers(track.pose) + track.shift(timestamp) for track in tracks])  # (T, 2)
        sizes = np.array([track.size for track in tracks])
        seconds = np.array([timestamp - track.timestamp for track in tracks])
        radius = sizes * (settings.search_radius + settings.search_speed * seconds)
        distance = np.linalg.norm(places[:, None] - _centers(poses)[None], axis=2)
        ratio = np.abs(np.log(np.maximum(_sizes(poses)[None], 1e-6) / np.maximum(sizes[:, None], 1e-6)))
        fits = ratio <= np.log(settings.max_size_ratio)
        return np.where(fits, np.maximum(1 - distance / np.maximum(radius[:, None], 1e-6), 0), 0)

    def _begin(self, pose: Poses, timestamp: float) -> Track:
        track = Track(self._next_id, pose, timestamp, np.zeros(2))
        self._next_id += 1
        self.tracks.append(track)
        return track

    def _update(self, track: Track, pose: Poses, timestamp: float, *, strong: bool) -> None:
        seconds = timestamp - track.timestamp
        # A weak pose is that of a person who is partly hidden: its displacement says little.
        if strong and seconds > 0:
            measured = _displacement(track.pose, pose) / seconds
            weight = 1.0 if track.num_seen == 1 else 1 - np.exp(-seconds / self.settings.velocity_seconds)
            track.velocity = track.velocity + weight * (measured - track.velocity)
        track.pose = pose
        track.timestamp = timestamp
        track.num_seen += 1

    def _is_kept(self, track: Track, timestamp: float) -> bool:
        seconds = timestamp - track.timestamp
        if seconds <= 0:
            return True
        return track.num_seen >= self.settings.min_seen and seconds <= self.settings.keep_seconds

    def _scale_to(self, image_size: Size) -> None:
        """Scale the tracks when the size of the frames changes: the scene is the same, its pixels are others."""
        before = self._image_size or image_size
        self._image_size = image_size
        if image_size == before:
            return
        factor = np.array(image_size.xy) / np.array(before.xy)
        for track in self.tracks:
            track.velocity = track.velocity * factor
            track.pose = replace(
                track.pose,
                keypoints=track.pose.keypoints * factor,
                boxes_xyxy=track.pose.boxes_xyxy * np.tile(factor, 2),
                image_size=image_size,
            )


def assign(similarity: Array) -> list[tuple[int, int]]:
    """(T, N) similarities of at least 0 -> pairs of row and column whose sum is the largest, each used at most once.

    Exact, by shortest augmenting paths (Jonker & Volgenant 1987, in the form of Crouse 2016). Not that of scipy, which
    the base install does not need for anything else.
    """
    cost = -similarity if similarity.shape[0] <= similarity.shape[1] else -similarity.T
    num_rows, num_columns = cost.shape
    row_price = np.zeros(num_rows)
    column_price = np.zeros(num_columns)
    row_of = np.full(num_columns, -1)
    for start in range(num_rows):
        distance = np.full(num_columns, np.inf)
        previous = np.full(num_columns, -1)
        is_done = np.zeros(num_columns, bool)
        row = start
        shortest = 0.0
        column = -1
        # The cheapest path from the new row to a free column, over rows that would change their column.
        while row >= 0:
            through = shortest + cost[row] - row_price[row] - column_price
            is_better = ~is_done & (through < distance)
            distance[is_better] = through[is_better]
            previous[is_better] = row
            column = int(np.where(is_done, np.inf, distance).argmin())
            shortest = float(distance[column])
            is_done[column] = True
            row = int(row_of[column])
        reached = row_of[is_done & (row_of >= 0)]
        row_price[start] += shortest
        row_price[reached] += shortest - distance[is_done & (row_of >= 0)]
        column_price[is_done] -= shortest - distance[is_done]
        while column >= 0:
            row = int(previous[column])
            taken_before = np.flatnonzero(row_of == row)
            row_of[column] = row
            column = -1 if row == start else int(taken_before[0])
    pairs = [(int(row), int(column)) for column, row in enumerate(row_of) if row >= 0]
    return sorted(pairs if cost.shape == similarity.shape else [(column, row) for row, column in pairs])


def _pairs(similarity: Array, minimum: float, rows: NDArray[np.int64], tracks: list[Track]) -> dict[int, Track]:
    """(T, N) similarities of tracks and of the poses in `rows` -> the track of each row that is similar enough."""
    # What is too dissimilar must not attract anybody.
    useful = np.where(similarity > minimum, similarity, 0)
    return {int(rows[n]): tracks[t] for t, n in assign(useful) if useful[t, n] > 0}


def _displacement(before: Poses, after: Poses) -> Array:
    """Two poses (N = 1) -> (2,) median displacement of the keypoints that are confident in both, or that of the box."""
    both = (_confident(before) & _confident(after))[0]
    if 2 * np.count_nonzero(both) < len(both):
        return (_centers(after) - _centers(before))[0]
    return np.median(after.keypoints[0, both] - before.keypoints[0, both], axis=0).astype(np.float64)


def _confident(poses: Poses) -> NDArray[np.bool_]:
    """(N, K) whether a keypoint can be compared."""
    return (poses.scores > MIN_KEYPOINT_SCORE) & np.isfinite(poses.keypoints).all(axis=2)


def _centers(poses: Poses) -> Array:
    """(N, 2) centers of the boxes in pixels."""
    return np.nan_to_num(poses.boxes_xyxy.astype(np.float64)).reshape(-1, 2, 2).mean(axis=1)


def _sizes(poses: Poses) -> Array:
    """(N,) square roots of the areas of the boxes in pixels."""
    boxes = np.nan_to_num(poses.boxes_xyxy.astype(np.float64))
    return np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1))


def _sigmas(skeleton: Skeleton) -> Array:
    """(K,) sigmas; a skeleton from a file may give none: 0."""
    return np.array([sigma if sigma > 0 else OTHER_SIGMA for sigma in skeleton.sigmas])
