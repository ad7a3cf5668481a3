"""Ids of tracked people, scored by TrackEval (HOTA, IDF1, MOTA), beside matching by the IoU of boxes alone.

    pip install trackeval motmetrics
    python benchmarks/tracking.py --out benchmarks/results/tracking.json
    python benchmarks/tracking.py --tune

Generated clips (`walking`): people walk, cross and hide. Their parameters, and those of both trackers, were chosen on
the seeds 0 to 9 (`--tune` prints scores for other values); the table is of the seeds 10 to 19. The boxes are the true
ones with errors, misses and false alarms. The poses are once the true keypoints with errors, and once those of a pose
model in these boxes of the drawn frames.

Two pedestrian sequences, TUD-Campus and TUD-Stadtmitte, come in the wheel of motmetrics, with the boxes that another
tracker gave out; its ids are not used. There are no images, and so no keypoints: they are put at fixed places in the
box. Of motmetrics only these files are read, because its code does not run with numpy 2.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from walking import Scene, Truth, make_scene

from featherpose import files, weights
from featherpose.boxes import iou, jitter_boxes, overlap_of_first
from featherpose.poses import Poses
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.pipeline import without_duplicates
from featherpose.runtime.tracker import Tracker, TrackerSettings, assign
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training.benchmark import machine

TUNING_SEEDS = range(10)
SEEDS = range(10, 20)
MODEL = "default"

BOX_ERROR = 0.04
"""Standard deviation of the error of each side of a box, relative to the width or height."""
KEYPOINT_ERROR = 0.5
"""That of keypoints, in multiples of the annotators' (COCO's sigma x square root of the area). The median error is
0.030 of the person's size; that of the default model on the drawn clips with the seeds 0 to 9 is 0.025."""
MISSED = 0.04
"""Fraction of the fully visible people whom the detector misses; with less to be seen it grows to 1."""
FALSE_ALARMS = 0.03
"""Boxes per frame in which nobody is."""

SEQUENCES = ("TUD-Campus", "TUD-Stadtmitte")
SEQUENCE_RATE = 25.0
SEQUENCE_SIZE = Size(height=480, width=640)
STANDING = np.array(
    [
        *((0.50, 0.07), (0.53, 0.06), (0.47, 0.06), (0.57, 0.07), (0.43, 0.07)),
        *((0.68, 0.19), (0.32, 0.19), (0.76, 0.34), (0.24, 0.34), (0.78, 0.48), (0.22, 0.48)),
        *((0.61, 0.51), (0.39, 0.51), (0.61, 0.72), (0.39, 0.72), (0.61, 0.93), (0.39, 0.93)),
    ]
)
"""(17, 2) keypoints of a standing person, as fractions of the box."""

Track = Callable[[Poses, float], Poses]
"""Poses of the next frame and its time in s -> those of tracked people, with ids."""


@dataclass(frozen=True, eq=False)
class Clip:
    """What is known of a clip: of each frame the truth, the poses that are to be tracked, and the time in s."""

    name: str
    rate: float
    truths: list[Truth]
    poses: list[Poses]


class BoxTracker:
    """Matching by the IoU with the last box alone: no motion, no keypoints; a track is kept for some time."""

    def __init__(self, min_iou: float = 0.2, keep_seconds: float = 2.5, strong_score: float = 0.2) -> None:
        self.min_iou = min_iou
        self.keep_seconds = keep_seconds
        self.strong_score = strong_score
        self._next_id = 1
        self._boxes = np.zeros((0, 4), np.float32)
        self._ids = np.zeros(0, np.int64)
        self._times = np.zeros(0)

    def __call__(self, poses: Poses, timestamp: float) -> Poses:
        similarity = iou(self._boxes, poses.boxes_xyxy).astype(np.float64)
        useful = np.where(similarity >= self.min_iou, similarity, 0)
        pairs = {n: t for t, n in assign(useful) if useful[t, n] > 0}
        strong = poses.person_scores >= self.strong_score
        rows = [n for n in range(len(poses)) if n in pairs or strong[n]]
        ids: list[int] = []
        for n in rows:
            ids.append(int(self._ids[pairs[n]]) if n in pairs else self._next_id)
            self._next_id += n not in pairs
        tracked = replace(poses[np.array(rows, np.int64)], ids=np.array(ids, np.int64))
        waits = np.array([t not in pairs.values() for t in range(len(self._ids))], bool)
        waits &= timestamp - self._times <= self.keep_seconds
        self._boxes = np.concatenate([self._boxes[waits], tracked.boxes_xyxy])
        self._ids = np.concatenate([self._ids[waits], ids]).astype(np.int64)
        self._times = np.concatenate([self._times[waits], np.full(len(ids), timestamp)])
        return tracked


def generated(seed: int, estimator: Estimator | None) -> Clip:
    """Seed -> a clip whose poses are those of a model, or without one, the true keypoints with errors."""
    scene = make_scene(seed)
    truths = [scene.truth(frame) for frame in range(scene.num_frames)]
    poses: list[Poses] = []
    for frame, truth in enumerate(truths):
        # The same boxes in both cases.
        rng = np.random.default_rng((seed, frame))
        people, boxes, scores = detect(scene, truth, rng)
        if estimator is None:
            found = keypoints_with_errors(scene, truth, frame, people, boxes, scores, rng)
        else:
            found = estimator(scene.draw(frame), boxes, scores)
        poses.append(without_duplicates(found))
    return Clip(f"seed {seed}", scene.rate, truths, poses)


def detect(scene: Scene, truth: Truth, rng: np.random.Generator) -> tuple[list[int], NDArray[Any], NDArray[Any]]:
    """A frame -> indices of the detected people in the truth, -1 for a false alarm; boxes (N, 4); scores (N,)."""
    found = np.flatnonzero(rng.random(len(truth.ids)) > MISSED + (1 - truth.visible) ** 2)
    boxes = jitter_boxes(truth.boxes_xyxy[found], BOX_ERROR, rng)
    scores = np.clip(0.9 * truth.visible[found] + rng.normal(0, 0.07, len(found)), 0.2, 1)
    people: list[int] = found.tolist()
    if rng.random() < FALSE_ALARMS:
        width, height = rng.uniform(60, 200, 2)
        corner = rng.uniform((0, 0), (scene.size.width - width, scene.size.height - height))
        people.append(-1)
        opposite = corner + np.array((width, height))
        false_box = np.concatenate([corner, opposite])
        boxes = np.concatenate([boxes, false_box[None]])
        scores = np.append(scores, rng.uniform(0.2, 0.5))
    return people, boxes, scores


def keypoints_with_errors(
    scene: Scene,
    truth: Truth,
    frame: int,
    people: list[int],
    boxes: NDArray[Any],
    scores: NDArray[Any],
    rng: np.random.Generator,
) -> Poses:
    """Detected people -> poses as those of a model: with errors, larger ones where the person is covered; there the
    pose is now and then that of the person in front."""
    keypoints = np.zeros((len(people), 17, 2))
    keypoint_scores = np.zeros((len(people), 17))
    # How much each person is covered by each one in front.
    overlap = np.triu(overlap_of_first(truth.boxes_xyxy, truth.boxes_xyxy), 1)
    for row, person in enumerate(people):
        size = np.sqrt(np.prod(boxes[row, 2:] - boxes[row, :2]))
        if person < 0:
            keypoints[row] = rng.uniform(boxes[row, :2], boxes[row, 2:], (17, 2))
            keypoint_scores[row] = rng.uniform(0, 0.5, 17)
            continue
        covered = 1 - truth.visible[person]
        shown = person
        if overlap[person].max() > 0 and rng.random() < 0.5 * overlap[person].max():
            shown = int(overlap[person].argmax())
        known = scene.walkers[truth.ids[shown]].cutout.pose.scores[0]
        is_lost = rng.random(17) < 0.02 + 0.5 * covered
        spread = KEYPOINT_ERROR * np.array(COCO17.sigmas) * size + 0.15 * size * is_lost
        true = scene.keypoints(int(truth.ids[shown]), frame)
        keypoints[row] = true + rng.normal(0, 1, (17, 2)) * spread[:, None]
        keypoint_scores[row] = np.clip(known * np.where(is_lost, 0.4, 1) + rng.normal(0, 0.05, 17), 0, 1)
    return Poses(keypoints, keypoint_scores, boxes, scores, COCO17, scene.size)


def sequence(name: str) -> Clip:
    """Name of one of `SEQUENCES` -> its clip."""
    spec = find_spec("motmetrics")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The pedestrian sequences come with motmetrics. Type: pip install motmetrics")
    folder = Path(spec.submodule_search_locations[0]) / "data" / name
    truth_rows = np.loadtxt(folder / "gt.txt", delimiter=",")
    found_rows = np.loadtxt(folder / "test.txt", delimiter=",")
    truths: list[Truth] = []
    poses: list[Poses] = []
    for frame in range(1, int(truth_rows[:, 0].max()) + 1):
        rows = truth_rows[truth_rows[:, 0] == frame]
        truths.append(Truth(rows[:, 1].astype(np.int64), to_xyxy(rows), np.ones(len(rows))))
        boxes = to_xyxy(found_rows[found_rows[:, 0] == frame])
        sides = boxes[:, 2:] - boxes[:, :2]
        keypoints = boxes[:, None, :2] + STANDING * sides[:, None]
        ones = np.ones(len(boxes))
        poses.append(Poses(keypoints, np.ones((len(boxes), 17)), boxes, ones, COCO17, SEQUENCE_SIZE))
    return Clip(name, SEQUENCE_RATE, truths, poses)


def to_xyxy(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of a file of MOTChallenge: frame, id, left, top, width, height (pixels from 1) -> boxes (N, 4)."""
    corner = rows[:, 2:4] - 1
    return np.concatenate([corner, corner + rows[:, 4:6]], axis=1).astype(np.float32)


def score(clips: Sequence[Clip], make_tracker: Callable[[], Track]) -> dict[str, float]:
    """Clips and a tracker -> HOTA, its two parts, IDF1 and MOTA in percent over all clips; changes of ids."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what optional packages are missing
        from trackeval.metrics import CLEAR, HOTA, Identity
    metrics = [HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})]
    data = [to_trackeval(clip, make_tracker()) for clip in clips]
    found: dict[str, Any] = {}
    for metric in metrics:
        per_clip = {str(number): metric.eval_sequence(of_clip) for number, of_clip in enumerate(data)}
        found |= metric.combine_sequences(per_clip)
    names = {"HOTA": "HOTA", "DetA": "DetA", "AssA": "AssA", "IDF1": "IDF1", "MOTA": "MOTA"}
    return {
        **{name: round(100 * float(np.mean(found[key])), 1) for name, key in names.items()},
        "id_switches": int(found["IDSW"]),
    }


def to_trackeval(clip: Clip, track: Track) -> dict[str, Any]:
    """A clip and a new tracker -> what the metrics of TrackEval read: ids as indices from 0."""
    tracked = [track(poses, index / clip.rate) for index, poses in enumerate(clip.poses)]
    ids = [np.zeros(0, np.int64) if poses.ids is None else poses.ids for poses in tracked]
    true_ids = [truth.ids for truth in clip.truths]
    known = np.unique(np.concatenate(true_ids))
    given = np.unique(np.concatenate(ids))
    return {
        "gt_ids": [np.searchsorted(known, of_frame) for of_frame in true_ids],
        "tracker_ids": [np.searchsorted(given, of_frame) for of_frame in ids],
        "similarity_scores": [
            iou(truth.boxes_xyxy, poses.boxes_xyxy).astype(np.float64)
            for truth, poses in zip(clip.truths, tracked, strict=True)
        ],
        "num_gt_ids": len(known),
        "num_tracker_ids": len(given),
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, ids)),
        "num_timesteps": len(clip.poses),
    }


TRACKERS: Mapping[str, Callable[[], Track]] = {"featherpose": Tracker, "box IoU": BoxTracker}


def measure() -> dict[str, Any]:
    """The facts: rows with the data, the tracker and its scores."""
    estimator = Estimator.open(weights.find(MODEL), "cpu", 2)
    data: dict[str, list[Clip]] = {"generated, true keypoints with errors": [generated(seed, None) for seed in SEEDS]}
    data[f"generated, poses of {weights.find(MODEL).stem}"] = []
    for seed in SEEDS:
        print(f"poses of the clip with seed {seed}", file=sys.stderr)
        data[f"generated, poses of {weights.find(MODEL).stem}"].append(generated(seed, estimator))
    data |= {name: [sequence(name)] for name in SEQUENCES}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {name: version(name) for name in ("featherpose", "numpy", "trackeval", "motmetrics")},
        "seeds": [SEEDS.start, SEEDS.stop - 1],
        "settings": asdict(TrackerSettings()),
        "rows": [
            {"data": name, "frames": sum(len(clip.poses) for clip in clips), "tracker": tracker, **score(clips, make)}
            for name, clips in data.items()
            for tracker, make in TRACKERS.items()
        ],
    }


def tune() -> None:
    """Print the scores of both trackers on the seeds for tuning, with each setting made smaller and larger."""
    clips = [generated(seed, None) for seed in TUNING_SEEDS]
    for keep in (0.2, 0.5, 1.0, 1.5, 2.5):
        for least in (0.1, 0.2, 0.3):
            facts = score(clips, lambda keep=keep, least=least: BoxTracker(least, keep))
            print(f"box IoU, keep_seconds={keep}, min_iou={least}: {facts}")
    print(f"featherpose: {score(clips, Tracker)}")
    for setting in fields(TrackerSettings):
        for factor in (0.5, 0.75, 1.33, 2.0):
            value = type(setting.default)(factor * setting.default)
            settings = replace(TrackerSettings(), **{setting.name: value})
            print(f"{setting.name}={value:g}: {score(clips, lambda settings=settings: Tracker(settings))}")


def main() -> None:
    """Print the table and write the results, or print scores for tuning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="scores on the seeds 0 to 9 for other settings")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    if args.tune:
        tune()
        return
    facts = measure()
    print(f"{'data':<40}{'tracker':<13}" + "".join(f"{name:>7}" for name in ("HOTA", "AssA", "IDF1", "MOTA", "IDSW")))
    for row in facts["rows"]:
        scores = "".join(f"{row[name]:7.1f}" for name in ("HOTA", "AssA", "IDF1", "MOTA"))
        print(f"{row['data']:<40}{row['tracker']:<13}{scores}{row['id_switches']:7d}")
    if args.out:
        files.replace(args.out, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
