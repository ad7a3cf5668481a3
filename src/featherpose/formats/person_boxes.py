"""Boxes of persons in images, as records: plain JSON, COCO annotations, or COCO detections.

{"photo.jpg": [[left, top, right, bottom], ...], "empty.jpg": []}
{"images": [...], "annotations": [...], "categories": [...]}      read by `coco_labels`
[{"image_id": 785, "category_id": 1, "bbox": [left, top, width, height], "score": 0.9}, ...]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files, meaning
from featherpose.boxes import xywh_to_xyxy, xyxy_to_xywh
from featherpose.errors import InputError
from featherpose.formats import values
from featherpose.formats.categories import COCO_PERSON, choose_id
from featherpose.formats.coco import image_number
from featherpose.formats.coco_labels import TWICE, is_repeated, read_people, read_person
from featherpose.records import CROWD, OUTSIDE, Counts, Id, ImageRecord, PersonRecord, Tally, name_key, overlaps, some
from featherpose.size import Size

_WANTED = (
    'wanted {"photo.jpg": [[left, top, right, bottom], ...], ...}, COCO annotations ({"images": ..., "annotations": '
    '...}) or COCO detections ([{"image_id", "bbox", "score"}, ...])'
)
NO_BOX = "without a box that has an area"
NOT_CORNERS = "whose right or bottom is before left or top (width and height in place of them?)"

Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes (N, 4) left, top, right, bottom in pixels, and their scores (N,)."""


@dataclass(frozen=True, eq=False)
class PersonBoxes:
    """Images that a file names, and the boxes of the persons in them.

    `complete`: COCO detections, which name an image by its id and leave out images without a person. In the other
    formats an image without an entry is missing.
    """

    images: tuple[ImageRecord, ...]
    persons: tuple[PersonRecord, ...]
    counts: Counts
    complete: bool = False
    name: str = "the boxes"
    """Path of the file, for messages."""

    def find(self, name: str, *, whole_name: bool = False) -> int | None:
        """Name of an image -> index of its entry, None where there is none.

        Looked up by the name as given, then without folders, without suffix, and by its number, which is how COCO
        detections refer to "000000000785.jpg"; last, among the entries without their folders and in another spelling
        (`records.name_key`). `whole_name`: only as given, for a name that two folders share.
        """
        path = PurePosixPath(name)
        number = image_number(name)
        short = [path.name, path.stem, path.stem if number is None else str(number)]
        for key in [name] if whole_name else [name, *short]:
            if key in self._by_name:
                return self._by_name[key]
        if whole_name:
            return None
        found = self._by_short_name.get(path.name, self._by_short_name.get(path.stem))
        return self._by_key.get(name_key(name)) if found is None else found

    def find_id(self, image_id: Id) -> int | None:
        """Id of an image in another file -> index of its entry, None where there is none."""
        return self._by_id.get(values.id_key(image_id))

    def inside(self, index: int | None, image_size: Size | None, tally: Tally) -> Boxes:
        """Index of an entry, None for none, and size of its image, where known -> its boxes inside the image.

        The others are counted.
        """
        kept: list[PersonRecord] = []
        for person in [] if index is None else self._by_image.get(index, []):
            assert person.box_xywh is not None  # the others were left out
            if image_size is None or overlaps(person.box_xywh, image_size):
                kept.append(person)
            else:
                tally.leave_out(OUTSIDE, person.place)
        boxes = np.array([person.box_xywh for person in kept], np.float32).reshape(-1, 4)
        scores = np.array([1.0 if person.score is None else person.score for person in kept], np.float32)
        return xywh_to_xyxy(boxes), scores

    def matched(self, indices: Collection[int], what: str, known: Sequence[object]) -> Counts:
        """Indices of the entries that are used, what the others lack, and what there is -> the counts of the boxes.

        InputError, which shows both sides, where there are entries and none is used.
        """
        if self.images and not indices:
            given = some([image.id if self.complete else image.name for image in self.images])
            raise InputError(f"{self.name}: the entries are of images {given}, {what} are {some(known)}.")
        tally = Tally(self.counts.what)
        for person in self.persons:
            if person.image not in indices:
                image = self.images[person.image]
                tally.leave_out(f"of no image among {what}", f"{person.place}, image {image.name}")
        counts = self.counts.less(tally)
        if counts.total and not counts.used:
            raise InputError(f"{self.name}: {counts.summary()}")
        return counts

    def warnings(self, sizes: Mapping[int, Size | None], *, strict: bool = False) -> list[str]:
        """Sizes of the images of the entries that are used -> what looks wrong about their boxes, one sentence each.

        `strict`: InputError in place of them.
        """
        images = [replace(image, size=sizes.get(index)) for index, image in enumerate(self.images)]
        persons = [person for person in self.persons if person.image in sizes]
        try:
            return meaning.warnings_about(images, persons, strict=strict)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def require_inside(self, sizes: Mapping[int, Size | None]) -> None:
        """Sizes of the images of the entries that are used -> InputError where they have boxes, and none is inside."""
        persons = [person for person in self.persons if person.image in sizes]
        boxes = [(person, person.box_xywh, sizes[person.image]) for person in persons]
        outside = [
            (person, box, size)
            for person, box, size in boxes
            if box is not None and size is not None and not overlaps(box, size)
        ]
        if outside and len(outside) == len(persons):
            person, box, size = outside[0]
            name = self.images[person.image].name
            raise InputError(
                f"{self.name}: none of {len(persons)} boxes is inside its image (first {person.place}: left, top,"
                f" width, height {box.tolist()}, image {name} of {size}). Are they of other images?"
            )

    @cached_property
    def digest(self) -> str:
        """Of all that poses depend on. A pipe cannot be read once more for it."""
        digest = hashlib.sha256(repr([image.name for image in self.images]).encode("utf-8", "surrogatepass"))
        for person in self.persons:
            assert person.box_xywh is not None  # the others were left out
            digest.update(repr((person.image, person.box_xywh.tolist(), person.score)).encode())
        return digest.hexdigest()

    @cached_property
    def _by_image(self) -> Mapping[int, list[PersonRecord]]:
        found: dict[int, list[PersonRecord]] = {}
        for person in self.persons:
            found.setdefault(person.image, []).append(person)
        return found

    @cached_property
    def _by_id(self) -> Mapping[str, int]:
        return {values.id_key(image.id): index for index, image in enumerate(self.images)}

    @cached_property
    def _by_name(self) -> Mapping[str, int]:
        return {image.name: index for index, image in enumerate(self.images)}

    @cached_property
    def _by_key(self) -> Mapping[str, int]:
        """Entries by the keys of their names, where these are unique."""
        keys = [name_key(image.name) for image in self.images]
        counts = Counter(keys)
        return {key: index for index, key in enumerate(keys) if counts[key] == 1}

    @cached_property
    def _by_short_name(self) -> Mapping[str, int]:
        """Entries by their names without folders, where these are unique."""
        short = [PurePosixPath(image.name.replace("\\", "/")).name for image in self.images]
        counts = Counter(short)
        return {name: index for index, name in enumerate(short) if counts[name] == 1}


def read(path: Path, wanted: str = "", category: Id | None = None, *, expected: Id | None = None) -> PersonBoxes:
    """JSON file in one of the three formats -> PersonBoxes.

    Args:
        wanted: what to do where the file cannot be read.
        category: id or name of the category of the persons; None: chosen as `categories` describes.
        expected: id that this category most likely has: that of the labels.
    """
    # Python's parser keeps the last one of repeated keys; here all count.
    content = files.read_json(path, wanted, joined=True)
    try:
        return replace(from_json(content, path.name, category, expected=expected), name=str(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def from_json(
    content: Any, name: str = "the boxes", category: Id | None = None, *, expected: Id | None = None
) -> PersonBoxes:
    """A JSON value in one of the three formats -> PersonBoxes. Crowds and other categories are left out."""
    if _is_annotations(content):
        return _from_annotations(content, name, category, expected)
    if isinstance(content, dict):
        return _from_names(content, name)
    if isinstance(content, list):
        return _from_detections(content, name, category, expected)
    raise InputError(f"The boxes are a JSON {type(content).__name__}; {_WANTED}.")


def _is_annotations(content: Any) -> bool:
    return isinstance(content, dict) and "annotations" in content


def _from_annotations(content: dict[str, Any], name: str, category: Id | None, expected: Id | None) -> PersonBoxes:
    people = read_people(content, name, category, expected=expected, posed=False)
    tally = Tally(people.counts.what)
    persons = [person for person in people.persons if _is_used(person, tally)]
    return PersonBoxes(people.images, tuple(persons), people.counts.less(tally))


def _from_names(content: dict[str, Any], name: str) -> PersonBoxes:
    tally = Tally(f"boxes of {name}")
    images: list[ImageRecord] = []
    persons: list[PersonRecord] = []
    seen: set[tuple[Any, ...]] = set()
    for key, rows in content.items():
        if not isinstance(rows, list):
            raise InputError(f"{key!r} is {values.shown(rows)}, a list of boxes is missing; {_WANTED}.")
        for number, row in enumerate(rows):
            place = f"{key}[{number}]"
            tally.total += 1
            if not isinstance(row, list) or len(row) != 4:
                raise InputError(f"{place} is {values.shown(row)}, a box is not four numbers; {_WANTED}.")
            box = xyxy_to_xywh(values.as_numbers(row, place))
            person = PersonRecord(len(images), None, None, False, None, box, None, None, place)
            if not (box[2:] > 0).all():
                tally.leave_out(NO_BOX if (box[2:] == 0).any() else NOT_CORNERS, place)
            elif is_repeated(person, seen):
                tally.leave_out(TWICE, place)
            else:
                persons.append(person)
        images.append(ImageRecord(key, key, None, repr(key)))
    return PersonBoxes(tuple(images), tuple(persons), tally.counts())


def _from_detections(content: list[Any], name: str, category: Id | None, expected: Id | None) -> PersonBoxes:
    for index, record in enumerate(content):
        if not isinstance(record, dict):
            raise InputError(f"[{index}] is {values.shown(record)}, wanted an object; {_WANTED}.")
    ids = [values.as_optional_id(row.get("category_id"), f"[{i}].category_id") for i, row in enumerate(content)]
    used = Counter(values.id_key(category_id) for category_id in ids if category_id is not None)
    chosen = choose_id(used, category, expected)
    taken = "" if chosen in (None, COCO_PERSON) else f" (category {chosen})"
    tally = Tally(f"detections of {name}{taken}", len(content))
    images: dict[str, ImageRecord] = {}
    index_of: dict[str, int] = {}
    persons: list[PersonRecord] = []
    seen: set[tuple[Any, ...]] = set()
    for number, (record, category_id) in enumerate(zip(content, ids, strict=True)):
        place = f"[{number}]"
        if category_id is not None and values.id_key(category_id) != chosen:
            tally.leave_out(f"of category {category_id}", place)
            continue
        image_id = values.as_id(record.get("image_id"), f"{place}.image_id")
        key = values.id_key(image_id)
        image = index_of.setdefault(key, len(images))
        images.setdefault(key, ImageRecord(key, image_id, None, place))
        # What a detection says about keypoints are scores, and no labels.
        box_alone = {key: value for key, value in record.items() if key != "keypoints"}
        person, _ = read_person(box_alone, place, image, category_id, None)
        if is_repeated(person, seen):
            tally.leave_out(TWICE, place)
        elif _is_used(person, tally):
            persons.append(person)
    return PersonBoxes(tuple(images.values()), tuple(persons), tally.counts(), complete=True)


def _is_used(person: PersonRecord, tally: Tally) -> bool:
    """Whether a person has a box and is no crowd; where not, this is counted."""
    if person.crowd:
        tally.leave_out(CROWD, person.place)
    elif person.box_xywh is None:
        tally.leave_out(NO_BOX, person.place)
    else:
        return True
    return False
