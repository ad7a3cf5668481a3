"""Records: what any label, box or detection file says about images and the persons in them, in one form.

`formats` parses the files; training, prediction and evaluation see records alone, so that they read a file alike. Every
reading ends in `Counts`: how many records are used, and why the others are not.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import xywh_to_xyxy
from featherpose.errors import DataError
from featherpose.oks import person_area
from featherpose.size import Size
from featherpose.skeleton import Skeleton

Id = int | str
"""An id as the file gives it; 1 and "1" are the same id. Ids never index arrays."""

BOX_MARGIN = 0.15
"""Margin of a box around keypoints, as a fraction of their larger extent: a head extends beyond its keypoints."""

CROWD = "crowd regions"
UNLABELED = "without a labeled keypoint"
NO_BOX = "without a box and with too few keypoints for one"
OUTSIDE = "with a box outside the image"


@dataclass(frozen=True)
class ImageRecord:
    """An image that a file names."""

    name: str
    """File name, with folders, as the file gives it."""
    id: Id
    size: Size | None
    """Of the upright image; None where the file does not say it."""
    place: str
    """Where the file says it, for messages: "images[3]"."""
    crowd_index: float | None = None
    """How much the persons overlap, 0 to 1, as CrowdPose has it; None where the file does not say it."""


@dataclass(frozen=True, eq=False)
class PersonRecord:
    """A labeled or detected person."""

    image: int
    """Index into the images of the same file."""
    id: Id | None
    category: Id | None
    """As the file gives it."""
    crowd: bool
    """The box is around several persons."""
    area: float | None
    """Of the person's segmentation in square pixels; None where the file does not say it."""
    box_xywh: NDArray[np.float32] | None
    """(4,) in pixels, with an area; None where there is neither a box nor keypoints to compute one from."""
    keypoints: NDArray[np.float32] | None
    """(K, 3) x, y, visibility (0 not labeled, 1 labeled but hidden, 2 visible); None where the file has none."""
    score: float | None
    """Of a detection."""
    place: str
    """Where the file says it, for messages: "annotations[17]"."""
    box_is_computed: bool = False
    """The box is around the keypoints, because the file gives none."""

    @property
    def is_labeled(self) -> bool:
        """Whether any keypoint is labeled."""
        return self.keypoints is not None and bool((self.keypoints[:, 2] > 0).any())

    @property
    def known_area(self) -> float:
        """The person's area in square pixels, 0.53 of the box where the file does not say it, 0 without a box."""
        return person_area(self.area, np.zeros(4) if self.box_xywh is None else self.box_xywh)


class Group(NamedTuple):
    """Records that share a reason."""

    reason: str
    number: int
    first: str
    """Place of the first one."""

    def __str__(self) -> str:
        return f"{self.number} {self.reason} (first {self.first})"


@dataclass(frozen=True)
class Counts:
    """How many records of a kind are used, how many are left out and why, and what was assumed about others."""

    what: str
    """Kind of the records and their source: "annotations of my.json"."""
    total: int
    left_out: tuple[Group, ...] = ()
    assumed: tuple[Group, ...] = ()

    @property
    def used(self) -> int:
        """Number of records used."""
        return self.total - sum(group.number for group in self.left_out)

    def less(self, tally: Tally) -> Counts:
        """The same with the records that somebody leaves out later."""
        return replace(self, left_out=(*self.left_out, *tally.counts().left_out))

    def sentences(self) -> list[str]:
        """The numbers for the user, one sentence each."""
        return [self.summary(), *(f"{group}." for group in self.assumed)]

    def summary(self) -> str:
        """Used, of how many, and the reasons of the others, in one sentence.

        >>> Counts("annotations of my.json", 3, (Group("crowd regions", 1, "annotations[2]"),)).summary()
        '2 of 3 annotations of my.json used; left out: 1 crowd regions (first annotations[2]).'
        """
        reasons = ", ".join(map(str, self.left_out))
        return f"{self.used} of {self.total} {self.what} used" + (f"; left out: {reasons}." if reasons else ".")

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "what": self.what,
            "used": self.used,
            "total": self.total,
            "left_out": [group._asdict() for group in self.left_out],
            "assumed": [group._asdict() for group in self.assumed],
        }


class Tally:
    """Counts while records are read."""

    def __init__(self, what: str, total: int = 0) -> None:
        self.what = what
        self.total = total
        self._left_out: dict[str, Group] = {}
        self._assumed: dict[str, Group] = {}

    @property
    def left_out(self) -> int:
        """Number of records that are not used."""
        return sum(group.number for group in self._left_out.values())

    def leave_out(self, reason: str, place: str) -> None:
        """Count a record that is not used."""
        _add(self._left_out, reason, place)

    def add(self, other: Tally) -> None:
        """Add the records that another tally has counted."""
        self.add_counts(other.counts())

    def add_counts(self, counts: Counts) -> None:
        """Add records that have been counted."""
        self.total += counts.total
        for group in counts.left_out:
            known = self._left_out.get(group.reason, group._replace(number=0))
            self._left_out[group.reason] = known._replace(number=known.number + group.number)

    def assume(self, what: str, place: str) -> None:
        """Count a record that is used although it did not say everything."""
        _add(self._assumed, what, place)

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(self.what, self.total, tuple(self._left_out.values()), tuple(self._assumed.values()))


def _add(groups: dict[str, Group], reason: str, place: str) -> None:
    known = groups.get(reason, Group(reason, 0, place))
    groups[reason] = known._replace(number=known.number + 1)


@dataclass(frozen=True, eq=False)
class Labels:
    """An annotation file: its images, the persons of one category in them, and the skeleton of their keypoints."""

    images: tuple[ImageRecord, ...]
    persons: tuple[PersonRecord, ...]
    skeleton: Skeleton
    name: str
    """Name of the file or folder it was read from."""
    category: Id
    """Id of the category, as given."""
    category_name: str
    counts: Counts
    hidden: bool = False
    """Test images whose keypoints are withheld: a server compares what is uploaded."""

    @property
    def labeled(self) -> list[PersonRecord]:
        """The persons with a labeled keypoint, without crowds, in their order."""
        return [person for person in self.persons if person.is_labeled and not person.crowd]

    def usable(self) -> tuple[list[PersonRecord], Counts]:
        """The persons with a pose to learn or to find, in their order, and the counts with the reasons of the others.

        The same for training and evaluation.
        """
        tally = Tally(self.counts.what)
        kept: list[PersonRecord] = []
        for person in self.persons:
            reason = unusable(person, self.images[person.image].size)
            if reason:
                tally.leave_out(reason, person.place)
            else:
                kept.append(person)
        return kept, self.counts.less(tally)


def unusable(person: PersonRecord, image_size: Size | None) -> str:
    """Reason why a person has no pose to learn or to find; empty where there is one."""
    if person.crowd:
        return CROWD
    if not person.is_labeled:
        return UNLABELED
    if person.box_xywh is None:
        return NO_BOX
    return "" if image_size is None or overlaps(person.box_xywh, image_size) else OUTSIDE


def overlaps(box_xywh: NDArray[np.float32], image_size: Size) -> bool:
    """Box (4,) and size of its image -> whether a part of the box is inside."""
    left, top, right, bottom = xywh_to_xyxy(box_xywh).tolist()
    return left < image_size.width and top < image_size.height and right > 0 and bottom > 0


def require_used(counts: Counts, others: str = "") -> None:
    """DataError where no record is used. `others`: what the records were to match, a sentence."""
    if not counts.used:
        raise DataError(f"{counts.summary()}{others and ' '}{others}")


def last_part(name: str) -> str:
    """File name of any system, or an address -> the name without folders.

    >>> last_part("C:\\\\data\\\\a%20b.jpg"), last_part("https://a.org/c.jpg?size=3")
    ('a b.jpg', 'c.jpg')
    """
    plain = name.partition("?")[0] if "://" in name else name
    return PurePosixPath(unquote(plain).replace("\\", "/")).name


def name_key(name: str) -> str:
    """File name -> its last part in a form by which names are compared that tools spell differently.

    Windows ignores case; macOS decomposes letters with accents.
    """
    return unicodedata.normalize("NFC", last_part(name)).casefold()


def count_notes(notes: Mapping[str, str]) -> list[str]:
    """What is said about images, by their names -> each sentence once, with how many images it is true of.

    >>> count_notes({"a.png": "brightened", "b.png": "brightened"})
    ['2 images (first a.png): brightened.']
    """
    found: list[str] = []
    for sentence, number in Counter(notes.values()).items():
        first = next(name for name, said in notes.items() if said == sentence)
        found.append(f"{number} {'image' if number == 1 else 'images'} (first {first}): {sentence}.")
    return found


def box_around(keypoints: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Keypoints (K, 3) -> box x, y, width, height (4,) around the labeled ones with `BOX_MARGIN` on every side.

    None where fewer than two different keypoints are labeled.
    """
    labeled = np.unique(keypoints[keypoints[:, 2] > 0, :2].astype(np.float64), axis=0)
    if len(labeled) < 2:
        return None
    low = labeled.min(axis=0)
    extent = labeled.max(axis=0) - low
    margin = BOX_MARGIN * extent.max()
    return np.concatenate([low - margin, extent + 2 * margin]).astype(np.float32)


def some(names: Sequence[object], limit: int = 3) -> str:
    """Names -> the first of them, for messages.

    >>> some(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    'a.jpg, b.jpg, c.jpg, ... (4)'
    """
    shown = ", ".join(map(str, names[:limit]))
    return shown if len(names) <= limit else f"{shown}, ... ({len(names)})"
