"""One scene: an image with all its people, as a detector is trained on it, and the reader of shards of scenes.

`formats.shard_records` reads the JSON. A scene without people is an image of background. A broken record is reported
and left out, as in `shards`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import meaning
from featherpose.codecs.boxes import IGNORED, PERSON
from featherpose.data.sample import Location
from featherpose.data.shards import Member, find_shards, read_records
from featherpose.errors import DataError, InputError
from featherpose.formats.shard_records import read_scene
from featherpose.oks import person_area
from featherpose.records import ImageRecord, PersonRecord, Tally
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


def read_scenes(
    folders: Sequence[Path], teacher_threshold: float = 0.45, *, strict: bool = False, tally: Tally | None = None
) -> tuple[list[Scene], list[str]]:
    """Folders of `*.tar` shards -> all scenes in the order of their keys, and notes on them for the user.

    The notes are counts, and warnings about labels that look wrong (`meaning.CHECKS`); `strict`: DataError in place of
    the warnings. Boxes of a teacher count as people from a score of `teacher_threshold` on and are ignored below it.
    `tally` counts the scenes.
    """
    shards = [shard for folder in folders for shard in find_shards(folder)]
    reader = _Reader(teacher_threshold)
    scenes, broken = read_records(shards, reader.scene)
    if tally is not None:
        tally.total += len(scenes) + len(broken)
        for sentence in broken:
            tally.leave_out("with a broken record", sentence)
    try:
        warnings = meaning.warnings_about(reader.images, reader.people, strict=strict)
    except InputError as error:
        raise DataError(f"{', '.join(folder.name for folder in folders)}: {error}") from None
    notes = [*_notes(scenes, reader.left_out), *_broken_note(broken)]
    return scenes, [*notes, *(f"Warning: {sentence}" for sentence in warnings)]


class _Reader:
    """Reads scenes, and collects what they say about all people, for the checks of meaning."""

    def __init__(self, teacher_threshold: float) -> None:
        self._teacher_threshold = teacher_threshold
        self.left_out: Counter[str] = Counter()
        self.images: list[ImageRecord] = []
        self.people: list[PersonRecord] = []

    def scene(self, member: Member) -> Scene:
        """The entries of a shard with one key -> the scene; InputError where the record is broken."""
        content, encoded_image = member.parts()
        record = read_scene(content, len(self.images))
        image = record.image
        boxes = [_clipped(person, image.size) for person in record.people]
        reasons = [_unusable(box, person.score) for box, person in zip(boxes, record.people, strict=True)]
        rows = [row for row, reason in enumerate(reasons) if not reason]
        usable = [record.people[row] for row in rows]
        kinds = np.array([_kind(person, self._teacher_threshold) for person in usable], np.int8)
        keypoints = np.array([_keypoints(person) for person in usable], np.float32).reshape(-1, 17, 3)
        self.left_out.update(reason for reason in reasons if reason)
        self.images.append(ImageRecord(member.key, member.key, image.size, member.key))
        # What has no area is left out and counted as that.
        self.people += [person for person in record.people if _has_area(person)]
        return Scene(
            key=member.key,
            image=image.name,
            source=image.source,
            split=image.split,
            size=image.size,
            scale=image.scale,
            location=encoded_image,
            boxes_xywh=np.array([boxes[row] for row in rows], np.float32).reshape(-1, 4),
            kinds=kinds,
            keypoints=keypoints[..., :2],
            visibility=keypoints[..., 2].astype(np.uint8),
            areas=np.array([person_area(record.people[row].area or None, boxes[row]) for row in rows], np.float32),
            negative_weight=_negative_weight(image.split, int(np.count_nonzero(kinds == PERSON))),
        )


def _clipped(person: PersonRecord, size: Size) -> NDArray[np.float32]:
    """Person and the size of the image -> the part of the box (4,) that is inside."""
    assert person.box_xywh is not None  # read_scene
    low = np.clip(person.box_xywh[:2], 0, size.xy)
    high = np.clip(person.box_xywh[:2] + person.box_xywh[2:], low, size.xy)
    return np.concatenate([low, high - low]).astype(np.float32)


def _has_area(person: PersonRecord) -> bool:
    assert person.box_xywh is not None  # read_scene
    return bool((person.box_xywh[2:] > 0).all())


def _keypoints(person: PersonRecord) -> NDArray[np.float32]:
    """(17, 3) x, y, visibility; not labeled where the record has none."""
    return np.zeros((COCO17.num_keypoints, 3), np.float32) if person.keypoints is None else person.keypoints


def _unusable(box_xywh: NDArray[np.float32], teacher_score: float | None) -> str:
    """Reason why a person is left out; empty where this is not so."""
    if not (box_xywh[2:] > 0).all():
        return "boxes without area inside the image"
    if teacher_score is not None and teacher_score < TEACHER_MIN_SCORE:
        return f"boxes of the teacher with a score below {TEACHER_MIN_SCORE}"
    return ""


def _kind(person: PersonRecord, teacher_threshold: float) -> int:
    """PERSON or IGNORED."""
    is_unsure = person.score is not None and person.score < teacher_threshold
    return IGNORED if person.crowd or is_unsure else PERSON


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
