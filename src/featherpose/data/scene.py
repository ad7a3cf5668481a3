"""One scene: an image with all its people, as a detector is trained on it, and the reader of shards of scenes.

The JSON of a scene contains `people`, each with `box_xywh` and, where known, `iscrowd`, `area`, `keypoints` (17, COCO's
order), `label` and `score`; and `image`, `source`, `width`, `height`, `split` and `scale` as in a sample. A scene
without people is an image of background. A broken record is reported and left out, as in `shards`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.codecs.boxes import IGNORED, PERSON
from featherpose.data.sample import Location
from featherpose.data.shards import Member, check_keypoints, find_shards, read_records
from featherpose.oks import person_area
from featherpose.size import Size
from featherpose.skeleton import COCO17

TEACHER_MIN_SCORE = 0.2
"""Boxes of a teacher with a lower score are left out; those from here up to the threshold are ignored."""
CROWD = 10
"""From COCO's guidelines: at most about this many people of an image are labeled one by one, the others as a crowd."""

_SPLIT_WITHOUT_CROWDS = "train2017"


@dataclass(frozen=True, eq=False)
class Scene:
    """One stored image and the M people labeled in it; boxes and keypoints in pixels of that image."""

    key: str
    image: str  # name of the original image: determines whether the scene is in the validation set
    source: str  # data set: "coco", "voc2012"
    split: str  # part of the data set, such as "train2017"; empty where not known
    size: Size  # of the stored image
    scale: float  # stored pixels per pixel of the original image
    location: Location
    boxes_xywh: NDArray[np.float32]  # (M, 4), clipped to the image, which extends from 0 to its width and height
    kinds: NDArray[np.int8]  # (M,) PERSON or IGNORED
    keypoints: NDArray[np.float32]  # (M, 17, 2), COCO's order
    visibility: NDArray[np.uint8]  # (M, 17) 0 not labeled, 1 labeled but hidden, 2 visible
    areas: NDArray[np.float32]  # (M,) of the person's outline in square pixels; where not annotated, from the box
    negative_weight: float  # weight of places without a box; below 1 where people may be missing among the labels


def read_scenes(folders: Sequence[Path], teacher_threshold: float = 0.45) -> tuple[list[Scene], list[str]]:
    """Folders of `*.tar` shards -> all scenes in the order of their keys, and notes on them for the user (counts).

    Boxes of a teacher count as people from a score of `teacher_threshold` on and are ignored below it.
    """
    left_out: Counter[str] = Counter()
    shards = [shard for folder in folders for shard in find_shards(folder)]
    scenes, broken = read_records(shards, lambda member: _scene(member, teacher_threshold, left_out))
    return scenes, [*_notes(scenes, left_out), *_broken_note(broken)]


def _scene(member: Member, teacher_threshold: float, left_out: Counter[str]) -> Scene:
    record, encoded_image = member.parts()
    size = Size(height=int(record["height"]), width=int(record["width"]))
    labels = [_Person.read(person, size) for person in record["people"]]
    reasons = [label.unusable() for label in labels]
    split = str(record.get("split") or "")
    usable = [label for label, reason in zip(labels, reasons, strict=True) if not reason]
    kinds = np.array([label.kind(teacher_threshold) for label in usable], np.int8)
    scene = Scene(
        key=member.key,
        image=str(record["image"]),
        source=str(record["source"]),
        split=split,
        size=size,
        scale=float(record.get("scale", 1.0)),
        location=encoded_image,
        boxes_xywh=np.array([label.box_xywh for label in usable], np.float32).reshape(-1, 4),
        kinds=kinds,
        keypoints=np.array([label.keypoints[:, :2] for label in usable], np.float32).reshape(-1, 17, 2),
        visibility=np.array([label.keypoints[:, 2] for label in usable], np.uint8).reshape(-1, 17),
        areas=np.array([label.area for label in usable], np.float32),
        negative_weight=_negative_weight(split, int(np.count_nonzero(kinds == PERSON))),
    )
    left_out.update(reason for reason in reasons if reason)  # only now: those of a broken record do not count
    return scene


@dataclass(frozen=True, eq=False)
class _Person:
    """One entry of `people`."""

    box_xywh: NDArray[np.float32]  # (4,) clipped to the image
    keypoints: NDArray[np.float32]  # (17, 3) x, y, visibility
    area: float
    is_crowd: bool
    teacher_score: float | None

    @classmethod
    def read(cls, entry: dict[str, Any], size: Size) -> _Person:
        """Entry of a record and the size of its image -> the person; ValueError where its numbers make no sense."""
        box = np.array(entry["box_xywh"], np.float32)
        if box.shape != (4,) or not np.isfinite(box).all():
            raise ValueError(f"box_xywh is {box.tolist()}, wanted x, y, width and height")
        keypoints = np.array(entry.get("keypoints") or np.zeros((17, 3)), np.float32)
        check_keypoints(keypoints, COCO17)
        low = np.clip(box[:2], 0, size.xy)
        high = np.clip(box[:2] + box[2:], low, size.xy)
        clipped = np.concatenate([low, high - low]).astype(np.float32)
        return cls(
            box_xywh=clipped,
            keypoints=keypoints,
            area=person_area(entry.get("area") or None, clipped),
            is_crowd=bool(entry.get("iscrowd")),
            teacher_score=float(entry["score"]) if entry.get("label") == "teacher" else None,
        )

    def unusable(self) -> str:
        """Reason why the box is left out; empty where it is not."""
        if not (self.box_xywh[2:] > 0).all():
            return "boxes without area inside the image"
        if self.teacher_score is not None and self.teacher_score < TEACHER_MIN_SCORE:
            return f"boxes of the teacher with a score below {TEACHER_MIN_SCORE}"
        return ""

    def kind(self, teacher_threshold: float) -> int:
        """PERSON or IGNORED."""
        is_unsure = self.teacher_score is not None and self.teacher_score < teacher_threshold
        return IGNORED if self.is_crowd or is_unsure else PERSON


def _negative_weight(split: str, num_people: int) -> float:
    """In the split without crowd regions, an image with many labeled people most likely shows more."""
    return min(1.0, CROWD / num_people) if split == _SPLIT_WITHOUT_CROWDS and num_people else 1.0


def _notes(scenes: Sequence[Scene], left_out: Counter[str]) -> list[str]:
    kinds = np.concatenate([np.zeros(0, np.int8), *(scene.kinds for scene in scenes)])
    empty = sum(len(scene.kinds) == 0 for scene in scenes)
    posed = sum(int(scene.visibility.any(axis=1).sum()) for scene in scenes)
    notes = [
        f"{len(scenes)} images, {empty} of them without people: {np.count_nonzero(kinds == PERSON)} people,"
        f" {posed} with keypoints, and {np.count_nonzero(kinds == IGNORED)} boxes to ignore."
    ]
    if left_out:
        notes.append("Left out: " + ", ".join(f"{count} {reason}" for reason, count in left_out.items()) + ".")
    return notes


def _broken_note(broken: list[str]) -> list[str]:
    return [f"{len(broken)} broken scenes left out, first: {first}" for first in broken[:1]]
