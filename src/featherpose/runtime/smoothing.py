"""Smoothing of tracked keypoints: a causal filter for live use, one without lag for files, which also fills gaps.

Live: One-Euro (Casiez et al. 2012). Files: local quadratic regression, which is Savitzky-Golay's filter (1964) for
frames at any times and keypoints with weights. docs/video.md says how the parameters were chosen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.size import Size

Array = NDArray[np.float64]

MODES = ("off", "live", "file")


class Smoother(Protocol):
    """Poses with ids, frame after frame -> smoothed ones, in order, some frames later."""

    def __call__(self, poses: Poses, timestamp: float) -> list[Poses]:
        """The next frame and its time in s -> the frames that are done; the oldest that is not done is the first."""
        ...

    def flush(self) -> list[Poses]:
        """The frames that are left, at the end."""
        ...


def make_smoother(mode: str) -> Smoother:
    """Name in `MODES` -> a new smoother."""
    if mode not in MODES:
        raise InputError(f"The smoothing is {mode!r}, wanted {', '.join(MODES)}.")
    return {"off": Unsmoothed, "live": OneEuro, "file": LocalRegression}[mode]()


class Unsmoothed:
    """Changes nothing."""

    def __call__(self, poses: Poses, timestamp: float) -> list[Poses]:
        return [poses]

    def flush(self) -> list[Poses]:
        return []


@dataclass
class _Filtered:
    """State of the filter of one person: keypoints (K, 2), their speeds (K, 2) in px/s, time in s."""

    keypoints: Array
    speeds: Array
    timestamp: float


class OneEuro:
    """One-Euro filter of every keypoint of every person: steady when still, quick when moving; without delay.

    The cutoff is `min_cutoff` + `beta` x speed (Hz), with the speed in sizes of the person per second, so that people
    near and far are treated alike. Keypoints at or below a score of 0.2 move more slowly to their new place, in
    proportion to the score.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 7.0, speed_cutoff: float = 3.0) -> None:
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.speed_cutoff = speed_cutoff
        self._states: dict[int, _Filtered] = {}
        self._image_size: Size | None = None

    def __call__(self, poses: Poses, timestamp: float) -> list[Poses]:
        if poses.image_size != self._image_size:
            self._states.clear()  # the pixels are others
        self._image_size = poses.image_size
        keypoints = poses.keypoints.astype(np.float64)
        states: dict[int, _Filtered] = {}
        for row, track in enumerate(_ids(poses).tolist()):
            measured = keypoints[row].copy()
            size = float(_sizes(poses.boxes_xyxy[row]))
            state = self._filter(self._states.get(track), measured, poses.scores[row], size, timestamp)
            states[track] = state
            keypoints[row] = state.keypoints
        self._states = states
        return [replace(poses, keypoints=keypoints)]

    def flush(self) -> list[Poses]:
        return []

    def _filter(
        self, before: _Filtered | None, measured: Array, scores: NDArray[np.float32], size: float, timestamp: float
    ) -> _Filtered:
        seconds = 0.0 if before is None else timestamp - before.timestamp
        if before is None or seconds <= 0:
            return _Filtered(measured, np.zeros_like(measured), timestamp)
        speeds = before.speeds + _gain(self.speed_cutoff, seconds) * (
            (measured - before.keypoints) / seconds - before.speeds
        )
        cutoff = self.min_cutoff + self.beta * np.linalg.norm(speeds, axis=1) / max(size, 1e-6)
        trust = np.clip(scores / MIN_KEYPOINT_SCORE, 0, 1)
        keypoints = before.keypoints + (trust * _gain(cutoff, seconds))[:, None] * (measured - before.keypoints)
        # A keypoint that is not known now, or was not before, cannot be filtered.
        is_known = np.isfinite(keypoints).all(axis=1, keepdims=True)
        return _Filtered(np.where(is_known, keypoints, measured), np.where(is_known, speeds, 0), timestamp)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame in the window: its poses, the row of each id, its time in s."""

    poses: Poses
    rows: dict[int, int]
    timestamp: float


class LocalRegression:
    """Smoothing for files: each keypoint is a quadratic function of time, fitted to the frames around it; without lag.

    A frame is done when those up to `half_window` + `max_gap` s after it are known. A keypoint at or below a score of
    0.2, and a person who is missing, are interpolated where confident ones lie before and after, at most `max_gap` s
    apart, and flagged. Elsewhere such a keypoint keeps its place. Scores are never changed; those of a missing person
    are the lower ones of the two frames around the gap.
    """

    def __init__(self, half_window: float = 0.2, max_gap: float = 0.5) -> None:
        self.half_window = half_window
        self.max_gap = max_gap
        self._window: deque[_Seen] = deque()
        self._next = 0
        """Index in the window of the oldest frame that is not done."""

    def __call__(self, poses: Poses, timestamp: float) -> list[Poses]:
        done: list[Poses] = []
        if self._window and self._window[-1].poses.image_size != poses.image_size:
            done = self.flush()  # the pixels are others
        ids = _ids(poses).tolist()
        self._window.append(_Seen(poses, {track: row for row, track in enumerate(ids)}, timestamp))
        reach = self.half_window + self.max_gap
        while self._window[self._next].timestamp + reach < timestamp:
            done.append(self._smooth(self._next))
            self._next += 1
        while self._window[0].timestamp + reach < self._window[self._next].timestamp:
            self._window.popleft()
            self._next -= 1
        return done

    def flush(self) -> list[Poses]:
        done = [self._smooth(index) for index in range(self._next, len(self._window))]
        self._window.clear()
        self._next = 0
        return done

    def _smooth(self, index: int) -> Poses:
        """Index of a frame in the window -> its poses, smoothed, with the persons who are missing."""
        poses = self._window[index].poses
        bridged = [gap for track in self._missing(index) if (gap := self._bridge(index, track)) is not None]
        whole = _joined(poses, bridged)
        keypoints = whole.keypoints.astype(np.float64)
        flags = np.zeros(whole.scores.shape, bool)
        flags[len(poses) :] = True
        for row, track in enumerate(_ids(whole).tolist()):
            keypoints[row], filled = self._person(index, track, keypoints[row])
            flags[row] |= filled
        return replace(whole, keypoints=keypoints, interpolated=flags)

    def _missing(self, index: int) -> list[int]:
        """Ids of the persons that are seen before and after a frame, but not in it."""
        frames = list(self._window)
        before = {track for seen in frames[:index] for track in seen.rows}
        after = {track for seen in frames[index + 1 :] for track in seen.rows}
        return sorted((before & after) - set(self._window[index].rows))

    def _bridge(self, index: int, track: int) -> Poses | None:
        """A person who is missing in a frame -> the pose (N = 1) between the frames around; None: they are too far."""
        frames = list(self._window)
        before = next(seen for seen in reversed(frames[:index]) if track in seen.rows)
        after = next(seen for seen in frames[index + 1 :] if track in seen.rows)
        if after.timestamp - before.timestamp > self.max_gap:
            return None
        first = before.poses[before.rows[track]]
        second = after.poses[after.rows[track]]
        part = (frames[index].timestamp - before.timestamp) / max(after.timestamp - before.timestamp, 1e-9)
        return replace(
            first,
            keypoints=first.keypoints + part * (second.keypoints - first.keypoints),
            scores=np.minimum(first.scores, second.scores),
            boxes_xyxy=first.boxes_xyxy + part * (second.boxes_xyxy - first.boxes_xyxy),
            box_scores=np.minimum(first.box_scores, second.box_scores),
            image_size=frames[index].poses.image_size,
        )

    def _person(self, index: int, track: int, measured: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Keypoints (K, 2) of a person in a frame -> (K, 2) smoothed, and (K,) which of them were interpolated."""
        now = self._window[index].timestamp
        seen = [frame for frame in self._window if track in frame.rows]
        times = np.array([frame.timestamp for frame in seen]) - now  # (F,)
        points = np.stack([frame.poses.keypoints[frame.rows[track]] for frame in seen]).astype(np.float64)  # (F, K, 2)
        scores = np.stack([frame.poses.scores[frame.rows[track]] for frame in seen])
        known = (scores > MIN_KEYPOINT_SCORE) & np.isfinite(points).all(axis=2)  # (F, K)

        # The confident frames around: the last up to now, and the first from now on.
        last = np.where(known & (times <= 0)[:, None], times[:, None], -np.inf).max(axis=0)  # (K,)
        first = np.where(known & (times >= 0)[:, None], times[:, None], np.inf).min(axis=0)
        is_measured = last == 0
        is_filled = ~is_measured & (first - last <= self.max_gap)

        # Those in the window have weights that fall with the distance in time; a gap widens the window to its ends.
        reach = np.where(is_filled, np.maximum(self.half_window, 1.5 * np.maximum(-last, first)), self.half_window)
        distance = np.abs(times)[:, None] / reach
        weights = np.where(known, np.clip(1 - distance**3, 0, None) ** 3, 0)  # (F, K), tricube
        fitted = _fit_at_zero(times, np.where(known[..., None], points, 0), weights)
        chosen = (is_measured | is_filled) & np.isfinite(fitted).all(axis=1)
        return np.where(chosen[:, None], fitted, measured), is_filled & chosen


def _fit_at_zero(times: Array, points: Array, weights: Array) -> Array:
    """Times (F,), points (F, K, 2), weights (F, K) -> (K, 2) value at time 0 of the quadratic fitted to each keypoint.

    Where frames are on one side of 0 only, or fewer than five, the fit is a line, and for fewer than three the average.
    """
    scale = max(float(np.abs(times).max()), 1e-6)
    powers = (times / scale)[:, None] ** np.arange(3)  # (F, 3)
    counts = (weights > 0).sum(axis=0)  # (K,)
    two_sided = (weights[times < 0] > 0).any(axis=0) & (weights[times > 0] > 0).any(axis=0)
    degree = np.where(counts < 3, 0, np.where(two_sided & (counts >= 5), 2, 1))  # (K,)
    normal = np.einsum("fk,fi,fj->kij", weights, powers, powers)
    right = np.einsum("fk,fi,fkc->kic", weights, powers, points)
    # Coefficients above the degree are 0: their rows and columns become those of the unit matrix.
    unused = np.arange(3) > degree[:, None]  # (K, 3)
    normal[unused[:, :, None] | unused[:, None, :]] = 0
    normal[:, range(3), range(3)] += np.where(unused, 1.0, 1e-9)
    right[unused] = 0
    value = np.linalg.solve(normal, right)[:, 0]
    return np.where((counts > 0)[:, None], value, np.nan)


def _joined(poses: Poses, others: list[Poses]) -> Poses:
    """Poses of a frame and single persons with ids -> all of them."""
    if not others:
        return poses
    parts = [poses, *others]
    return replace(
        poses,
        keypoints=np.concatenate([part.keypoints for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
        box_scores=np.concatenate([part.box_scores for part in parts]),
        ids=np.concatenate([_ids(part) for part in parts]),
    )


def _ids(poses: Poses) -> NDArray[np.int64]:
    if poses.ids is None:
        raise InputError("Smoothing needs poses with ids; give them to a Tracker first.")
    return poses.ids


def _gain(cutoff: Array | float, seconds: float) -> Array:
    """Cutoff frequency in Hz and time between frames -> weight of the new value in a low-pass filter of first order."""
    angle = 2 * np.pi * np.asarray(cutoff) * seconds
    return angle / (angle + 1)


def _sizes(boxes_xyxy: NDArray[np.float32]) -> Array:
    """(..., 4) -> (...,) square roots of the areas."""
    boxes = np.nan_to_num(boxes_xyxy.astype(np.float64))
    return np.sqrt(np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1))
