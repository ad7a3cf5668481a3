"""COCO annotation files (Lin et al. 2014, cocodataset.org, data format) -> records.

`images` (id, file_name, width, height), `annotations` (image_id, category_id, `bbox` x y width height, `keypoints`
x1 y1 v1 x2 ... in pixels, `area`, `iscrowd`) and `categories`, one of which lists the names of the keypoints
(`keypoints`) and the limbs (`skeleton`, counted from 1). `values` says how values are read. Records of other categories
are counted and not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import values
from featherpose.formats.categories import Category, choose, read_categories
from featherpose.records import Counts, Id, ImageRecord, Labels, PersonRecord, Tally, box_around, some
from featherpose.size import Size
from featherpose.skeleton import COCO17, SKELETONS, Skeleton

NO_IMAGE = "of an image that is not listed"
TWICE = "the same record twice"
FILLED_BOX = "boxes missing or without area, taken around the labeled keypoints"
NO_AREA = "areas missing or 0, taken as 0.53 of the box"
SAME_NAME = "image records with the file name of another one, taken as one image"

Record = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class People:
    """The people of a file: its images, the records of one category, and the counts."""

    images: tuple[ImageRecord, ...]
    persons: tuple[PersonRecord, ...]
    category: Category | None
    skeleton: Skeleton | None
    """None: their category lists no keypoints."""
    counts: Counts


def read(path: Path, name: str = "", category: Id | None = None, *, skeleton: Skeleton | None = None) -> Labels:
    """Annotation file with keypoints -> Labels.

    Args:
        name: of the data set; "": that of the file.
        category: id or name of the category of the persons; None: the one with keypoints.
        skeleton: the keypoints, where no category lists them; None: a category has to.

    Raises:
        InputError: a file that is none, or a record that cannot be read; how many others there are is said.
    """
    document = files.read_json(path, "Copy or write it again.")
    try:
        return from_json(document, name or path.stem, category, skeleton=skeleton)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_hidden(path: Path, name: str = "") -> Labels:
    """COCO's image_info_*.json, the images of a test set without annotations -> Labels with COCO's keypoints."""
    document = files.read_json(path, "Copy or download it again.")
    tally = Tally(f"annotations of {path.stem}, which are withheld")
    problems: list[str] = []
    try:
        images = _Images(tally, _section(document, "images"), problems)
        if problems:
            raise InputError(problems[0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Labels(tuple(images.records), (), COCO17, name or path.stem, 1, "person", tally.counts(), hidden=True)


def from_json(document: Any, name: str, category: Id | None = None, *, skeleton: Skeleton | None = None) -> Labels:
    """The content of an annotation file with keypoints -> Labels, as `read`."""
    people = read_people(document, name, category, posed=skeleton is None, skeleton=skeleton)
    if people.skeleton is None:
        raise InputError('no category lists keypoint names; add "keypoints" to categories[0], like ["nose", "tail"].')
    return Labels(
        images=people.images,
        persons=people.persons,
        skeleton=people.skeleton,
        name=name,
        category=1 if people.category is None else people.category.id,
        category_name="person" if people.category is None else people.category.name,
        counts=people.counts,
    )


def read_people(
    document: Any,
    name: str,
    category: Id | None,
    *,
    expected: Id | None = None,
    posed: bool,
    skeleton: Skeleton | None = None,
) -> People:
    """The content of an annotation file -> its people. `posed`: their category must list keypoints.

    Without `posed`, `categories` may be missing; all annotations are people then. `skeleton` is that of a category
    that lists no keypoints.
    """
    image_records = _section(document, "images")
    annotations = _section(document, "annotations")
    categories = read_categories(_section(document, "categories", required=posed))
    used = Counter(values.id_key(i) for i in _ids_of(annotations, "category_id"))
    chosen = choose(categories, used, category, expected=expected, posed=posed) if categories or posed else None
    tally = Tally(f"annotations of {name}{_choice(chosen)}", len(annotations))
    skeleton = _skeleton(chosen, name, tally) if chosen and chosen.keypoints else skeleton
    problems: list[str] = []
    images = _Images(tally, image_records, problems)
    reader = _Reader(images, categories, chosen, skeleton, tally)
    persons = list(_collect(reader.person, annotations, "annotations", problems))
    if problems:
        more = f" ({len(problems) - 1} more records are wrong)" if problems[1:] else ""
        raise InputError(f"{problems[0].rstrip('.')}; correct or remove it{more}.")
    if chosen is not None:
        _require_category(chosen, categories, used, annotations)
    images.require_listed()
    return People(tuple(images.records), tuple(persons), chosen, skeleton, tally.counts())


class _Images:
    """The images of a file; two records with one file name are one image."""

    def __init__(self, tally: Tally, image_records: Sequence[Record], problems: list[str]) -> None:
        self.records: list[ImageRecord] = []
        self._by_key: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._listed: list[Id] = []
        self._unlisted: list[Id] = []
        for index, record in enumerate(image_records):
            try:
                self._add(_image(record, f"images[{index}]"), tally)
            except InputError as error:
                problems.append(str(error))

    def find(self, image_id: Id) -> int | None:
        """Id of an image, or its file name where no id is that -> its index; None where it is not listed."""
        key = values.id_key(image_id)
        index = self._by_key.get(key, self._by_name.get(key))
        (self._unlisted if index is None else self._listed).append(image_id)
        return index

    def require_listed(self) -> None:
        """InputError, which shows both sides, where none of the images that were looked for is listed."""
        if self._unlisted and not self._listed:
            ids = some([image.id for image in self.records]) or "none"
            raise InputError(
                f"none of {len(self._unlisted)} annotations is of an image that is listed: their image_id is"
                f" {some(list(dict.fromkeys(self._unlisted)))}, the ids in `images` are {ids}"
            )

    def _add(self, image: ImageRecord, tally: Tally) -> None:
        key = values.id_key(image.id)
        same_id = self._by_key.get(key)
        if same_id is not None and self.records[same_id].name != image.name:
            raise InputError(f"{image.place}: two images have the same id {image.id!r}, {self.records[same_id].place}")
        index = self._by_name.setdefault(image.name, len(self.records))
        self._by_key[key] = index
        if index == len(self.records):
            self.records.append(image)
            return
        tally.assume(SAME_NAME, image.place)
        known = self.records[index]
        if None not in (image.size, known.size) and image.size != known.size:
            raise InputError(f"{image.place}: {image.name} has {image.size} pixels, in {known.place} {known.size}")


class _Reader:
    """Annotations -> PersonRecords of the category that was chosen."""

    def __init__(
        self,
        images: _Images,
        categories: Sequence[Category],
        chosen: Category | None,
        skeleton: Skeleton | None,
        tally: Tally,
    ) -> None:
        self._images = images
        self._categories = categories
        self._chosen = chosen
        self._num_keypoints = skeleton.num_keypoints if skeleton else None
        self._tally = tally
        self._seen: set[tuple[Any, ...]] = set()

    def person(self, record: Record, place: str) -> PersonRecord | None:
        """One annotation -> the person; None where it is left out, which is counted."""
        category_id = values.as_optional_id(record.get("category_id"), f"{place}.category_id")
        reason = self._other_category(category_id, place)
        if reason:
            self._tally.leave_out(reason, place)
            return None
        image_id = values.as_id(record.get("image_id"), f"{place}.image_id")
        image = self._images.find(image_id)
        if image is None:
            self._tally.leave_out(NO_IMAGE, f"{place}, image_id {image_id!r}")
            return None
        person, assumed = read_person(record, place, image, category_id, self._num_keypoints)
        if is_repeated(person, self._seen):
            self._tally.leave_out(TWICE, place)
            return None
        for what in assumed:
            self._tally.assume(what, place)
        return person

    def _other_category(self, category_id: Id | None, place: str) -> str:
        """Reason to leave a record out; empty where it is of the category that was chosen."""
        if self._chosen is None:
            return ""
        if category_id is None:
            listed = ", ".join(map(str, self._categories))
            raise InputError(f"{place} has no category_id, wanted one of {listed}")
        key = values.id_key(category_id)
        if key in (self._chosen.key, self._chosen.name):
            return ""
        for category in self._categories:
            if key in (category.key, category.name):
                return f"of category {category.name}"
        return f"of category {category_id!r}, which is not listed"


def read_person(
    record: Record, place: str, image: int, category_id: Id | None, num_keypoints: int | None
) -> tuple[PersonRecord, list[str]]:
    """An annotation or a detection of a known image -> the person, and what had to be assumed.

    `num_keypoints`: K of the category; None: not known, and keypoints matter only where there is no box.
    """
    where = place if record.get("id") is None else f"{place} (id {record['id']})"
    assumed: list[str] = []
    box = values.as_box(record.get("bbox"), f"{where}: bbox")
    has_area = box is not None and bool((box[2:] > 0).all())
    keypoints = None
    if num_keypoints is None and not has_area:
        num_keypoints = _count_keypoints(record.get("keypoints"))
    if num_keypoints is not None:
        keypoints = values.as_keypoints(record.get("keypoints"), num_keypoints, f"{where}: keypoints")
    crowd = values.as_flag(record.get("iscrowd"), f"{where}: iscrowd")
    area = values.as_optional_number(record.get("area"), f"{where}: area")
    if area is not None and area < 0:
        raise InputError(f"{where}: area is {area:g}, wanted square pixels")
    if box is not None and has_area:
        box = box.astype(np.float32)
    else:
        box = None if keypoints is None else box_around(keypoints)
        if box is not None:
            assumed.append(FILLED_BOX)
    if box is not None and not area and keypoints is not None and (keypoints[:, 2] > 0).any() and not crowd:
        assumed.append(NO_AREA)
    person = PersonRecord(
        image=image,
        id=values.as_optional_id(record.get("id"), f"{where}: id"),
        category=category_id,
        crowd=crowd,
        area=area or None,
        box_xywh=box,
        keypoints=keypoints,
        score=values.as_optional_number(record.get("score"), f"{where}: score"),
        place=place,
        box_is_computed=not has_area and box is not None,
    )
    return person, assumed


def is_repeated(person: PersonRecord, seen: set[tuple[Any, ...]]) -> bool:
    """Person, and the contents seen so far, to which it is added -> whether its content was among them.

    A record without a box cannot be told from another one.
    """
    if person.box_xywh is None:
        return False
    keypoints = b"" if person.keypoints is None else person.keypoints.tobytes()
    content = (person.image, person.box_xywh.tobytes(), keypoints, person.crowd, person.score)
    if content in seen:
        return True
    seen.add(content)
    return False


def _choice(chosen: Category | None) -> str:
    """Which category was taken, for the counts; empty where it is the usual one."""
    return "" if chosen is None or (chosen.name, chosen.key) == ("person", "1") else f" (category {chosen})"


def _count_keypoints(value: Any) -> int | None:
    """Keypoints of a category that does not name them -> K; None where there are none."""
    if not isinstance(value, list) or not value:
        return None
    return len(value) if isinstance(value[0], list) else len(value) // 3


def _section(document: Any, key: str, *, required: bool = True) -> list[Record]:
    """A list of objects in the document; InputError where it is none."""
    records = document.get(key) if isinstance(document, dict) else None
    if records is None and not required:
        return []
    if not isinstance(records, list):
        raise InputError(f"has no list `{key}`; wanted a COCO annotation file (images, annotations, categories).")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"{key}[{index}] is {values.shown(record)}, wanted an object; wanted a COCO annotation file"
                " (images, annotations, categories)."
            )
    return records


def _collect(read_one: Any, records: Sequence[Record], key: str, problems: list[str]) -> Iterable[Any]:
    """Records -> what is read of each that can be read; messages about the others are added to `problems`."""
    for index, record in enumerate(records):
        try:
            found = read_one(record, f"{key}[{index}]")
        except InputError as error:
            problems.append(str(error))
        else:
            if found is not None:
                yield found


def _ids_of(records: Sequence[Record], key: str) -> Iterable[Id]:
    """The ids under a key of records, where they can be read."""
    for record in records:
        value = record.get(key)
        if isinstance(value, int | str) or (isinstance(value, float) and value.is_integer()):
            yield int(value) if isinstance(value, float) else value


def _image(record: Record, place: str) -> ImageRecord:
    sizes = record.get("size") if isinstance(record.get("size"), dict) else record
    assert sizes is not None
    width = values.as_side(sizes.get("width"), f"{place}.width")
    height = values.as_side(sizes.get("height"), f"{place}.height")
    return ImageRecord(
        name=values.as_name(record.get("file_name"), f"{place}.file_name"),
        id=values.as_id(record.get("id"), f"{place}.id"),
        size=Size(height=height, width=width) if width and height else None,
        place=place,
        crowd_index=values.as_optional_number(record.get("crowdIndex"), f"{place}.crowdIndex"),
    )


def _require_category(
    chosen: Category, categories: Sequence[Category], used: Counter[str], annotations: Sequence[Record]
) -> None:
    """InputError where there are annotations, none of them of a category that is listed."""
    listed = {key for category in categories for key in (category.key, category.name)}
    if annotations and not used.keys() & listed:
        seen = ", ".join(sorted(used)[:5])
        raise InputError(
            f"none of {len(annotations)} annotations is of category {chosen}: their category_id is {seen}. Correct the"
            " id in `categories`, or the annotations."
        )


def _skeleton(category: Category, name: str, tally: Tally) -> Skeleton:
    """Category with keypoints -> the built-in skeleton with the same names in the same order, or a new one."""
    keypoint_names = _keypoint_names(category)
    limbs = category.skeleton or []
    if not isinstance(limbs, list):
        limbs = [limbs]  # refused below, by the message about limbs
    # The built-in skeleton has measured sigmas and colors, which the file does not have.
    known = [skeleton for skeleton in SKELETONS.values() if skeleton.keypoint_names == tuple(keypoint_names)]
    if known:
        return known[0]
    # No limb that is counted from 1 has a 0.
    first = 0 if any(isinstance(limb, list) and 0 in limb for limb in limbs) else 1
    found = [_limb(limb, len(keypoint_names), first) for limb in limbs]
    if first == 0:
        tally.assume("`skeleton` counts keypoints from 0", category.place)
    return Skeleton.from_names(name, keypoint_names, found)


def _keypoint_names(category: Category) -> list[str]:
    names = category.keypoints
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(
            f"the keypoints of category {category.name} are {values.shown(names)}; wanted a list of names."
        )
    return names


def _limb(limb: Any, num_keypoints: int, first: int) -> tuple[int, int]:
    """Two keypoint indices counted from `first` -> the same counted from 0."""
    try:
        ends = values.as_numbers(limb, "a limb").tolist() if isinstance(limb, list) else []
    except InputError:
        ends = []
    if len(ends) != 2 or not set(ends) <= set(range(first, first + num_keypoints)):
        raise InputError(
            f"{limb!r} in `skeleton` is not a limb; wanted two keypoints, counted from {first} to"
            f" {first + num_keypoints - 1}."
            " Without `skeleton` no limbs are drawn."
        )
    return int(ends[0]) - first, int(ends[1]) - first
