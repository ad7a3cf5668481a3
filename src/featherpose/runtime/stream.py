"""Poses over time: frames -> people found, tracked and smoothed; reading, inference and writing overlap in threads."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import box_of_keypoints
from featherpose.errors import InputError
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.runtime.detector import Detections
from featherpose.runtime.pipeline import TopDown, without_duplicates
from featherpose.runtime.smoothing import Smoother
from featherpose.runtime.stopwatch import Stopwatch
from featherpose.runtime.tracker import Track, Tracker
from featherpose.runtime.video_sources import Frame
from featherpose.size import Size

QUEUE_SIZE = 4
"""So many frames wait between two threads, at most."""

MAX_MOTION = 0.15
"""The detector runs again before a person has moved by this fraction of its size, ..."""
MAX_SECONDS = 0.4
"""... and at the latest after this time, because people come in; ..."""
MAX_SECONDS_WITHOUT_PEOPLE = 0.2
"""... or after this one where nobody is seen."""

Find = Callable[[NDArray[np.uint8]], Poses]
"""RGB uint8 (H, W, 3) -> Poses without ids."""

T = TypeVar("T")


class FindAll:
    """Finds the people in every frame with `find`, and gives them ids."""

    def __init__(self, find: Find, tracker: Tracker, watch: Stopwatch) -> None:
        self.find = find
        self.tracker = tracker
        self.watch = watch
        self.num_detections = 0

    def __call__(self, frame: Frame) -> Poses:
        """Frame -> Poses with ids."""
        self.num_detections += 1
        with self.watch.stage("poses"):
            poses = self.find(frame.image)
        with self.watch.stage("tracking"):
            return self.tracker(poses, frame.timestamp)


class FindSometimes:
    """Finds the people with a detector in some frames; in the others the boxes are those of their last keypoints.

    `every` is the distance of these frames. None: it is chosen, so that nobody moves far or is found late; and after a
    frame in which somebody was lost, or has become weak since the last detection, the detector runs.
    """

    def __init__(self, top_down: TopDown, tracker: Tracker, watch: Stopwatch, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise InputError(f"every is {every}, wanted auto or a number of frames of at least 1.")
        self.top_down = top_down
        self.tracker = tracker
        self.watch = watch
        self.every = every
        self.num_detections = 0
        self._num_since = 0
        """Frames since that of the last detection, including it."""
        self._detected_at = -np.inf
        self._previous: Poses | None = None
        self._is_uncertain = True
        self._weak: set[int] = set()
        """Ids whose pose was weak in the frame of the last detection: another one does not help."""

    def __call__(self, frame: Frame) -> Poses:
        """Frame -> Poses with ids."""
        is_detected = self._is_due(frame)
        if is_detected:
            with self.watch.stage("detection"):
                boxes, scores = self.top_down.detector(frame.image)
            self.num_detections += 1
            self._num_since = 0
            self._detected_at = frame.timestamp
        else:
            boxes, scores = self._carried(frame)
        self._num_since += 1
        with self.watch.stage("poses"):
            poses = without_duplicates(self.top_down.estimator(frame.image, boxes, scores))
        with self.watch.stage("tracking"):
            tracked = self.tracker(poses, frame.timestamp)
        weak = self._weak_ids(tracked)
        if is_detected:
            self._weak = weak
        self._is_uncertain = self._was_lost(tracked) or not weak <= self._weak
        self._previous = tracked
        return tracked

    def _is_due(self, frame: Frame) -> bool:
        if self._previous is None or self._previous.image_size != _size_of(frame):
            return True
        if self.every is not None:
            return self._num_since >= self.every
        if self._is_uncertain:
            return True
        return frame.timestamp - self._detected_at >= self._seconds_between()

    def _seconds_between(self) -> float:
        seen = self._seen()
        if not seen:
            return MAX_SECONDS_WITHOUT_PEOPLE
        fastest = max(float(np.linalg.norm(track.velocity)) / max(track.size, 1e-6) for track in seen)
        return min(MAX_SECONDS, MAX_MOTION / max(fastest, 1e-6))

    def _seen(self) -> list[Track]:
        """The people in the last frame."""
        ids = set() if self._previous is None or self._previous.ids is None else set(self._previous.ids.tolist())
        return [track for track in self.tracker.tracks if track.id in ids]

    def _weak_ids(self, tracked: Poses) -> set[int]:
        is_weak = tracked.person_scores < self.tracker.settings.strong_score
        return set() if tracked.ids is None else set(tracked.ids[is_weak].tolist())

    def _was_lost(self, tracked: Poses) -> bool:
        if self._previous is None or self._previous.ids is None or tracked.ids is None:
            return False
        return not set(self._previous.ids.tolist()) <= set(tracked.ids.tolist())

    def _carried(self, frame: Frame) -> Detections:
        """Boxes around the keypoints of the last frame, moved on, and the scores of the last detection."""
        boxes: list[NDArray[np.float32]] = []
        scores: list[float] = []
        for track in self._seen():
            shift = track.shift(frame.timestamp)
            keypoints = track.pose.keypoints[0] + shift
            found = box_of_keypoints(keypoints, track.pose.scores[0] > MIN_KEYPOINT_SCORE)
            box = track.pose.boxes_xyxy[0] + np.tile(shift, 2) if found is None else found
            clipped = np.clip(box, 0, np.tile(_size_of(frame).xy, 2)).astype(np.float32)
            # Who has left the frame has no box in it.
            if (clipped[2:] > clipped[:2]).all():
                boxes.append(clipped)
                scores.append(float(track.pose.box_scores[0]))
        return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)


FindInFrame = FindAll | FindSometimes


def poses_of_frames(
    frames: Iterable[Frame], find: FindInFrame, smoother: Smoother, watch: Stopwatch
) -> Iterator[tuple[Frame, Poses]]:
    """Frames -> each with its poses, tracked and smoothed, in order; a few frames are held where the smoother waits."""
    waiting: deque[Frame] = deque()
    for frame in frames:
        poses = find(frame)
        waiting.append(frame)
        with watch.stage("smoothing"):
            done = smoother(poses, frame.timestamp)
        for smoothed in done:
            yield waiting.popleft(), smoothed
    for smoothed in smoother.flush():
        yield waiting.popleft(), smoothed


@dataclass(frozen=True, eq=False)
class _End:
    """The last thing in the queue: the error that ended the thread, or None."""

    error: BaseException | None


class Background(Generic[T]):
    """Iterates over `items` in a thread; at most `size` of them wait to be taken. An error is raised where it would be.

    With `drop_oldest`, an item that waits makes room for a new one: a live source does not wait.
    """

    def __init__(self, items: Iterable[T], size: int = QUEUE_SIZE, *, drop_oldest: bool = False) -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(size)
        self._drop_oldest = drop_oldest
        self._is_stopped = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._is_over:
            raise StopIteration
        item = self._queue.get()
        if not isinstance(item, _End):
            return item
        self._is_over = True
        self._thread.join()
        if item.error is not None:
            raise item.error
        raise StopIteration

    def finish(self) -> None:
        """Take no more items; those that wait are still given."""
        self._is_stopped.set()

    def close(self) -> None:
        """Stop the thread, and let what waits go."""
        self.finish()
        while not self._is_over:
            try:
                next(self)
            except StopIteration:
                break
            except Exception:  # nobody is left to hear of it
                break

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                self._put(item)
                if self._is_stopped.is_set():
                    break
        except BaseException as caught:
            error = caught
        try:
            close: Any = getattr(self._items, "close", None)
            if close is not None:
                close()
        finally:
            self._queue.put(_End(error))

    def _put(self, item: T) -> None:
        while self._drop_oldest and self._queue.full():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put(item)


def _size_of(frame: Frame) -> Size:
    return Size(height=frame.image.shape[0], width=frame.image.shape[1])
