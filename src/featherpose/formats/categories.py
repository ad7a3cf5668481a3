"""Which category of a file is that of the people: the one with keypoints or with a name for people, whatever its id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from featherpose.errors import InputError
from featherpose.formats import values
from featherpose.records import Id

PEOPLE = frozenset(
    {
        *("person", "persons", "people", "pedestrian", "pedestrians", "human", "humans", "man", "woman"),
        *("boy", "child", "children", "girl", "men", "women", "human body", "human pose", "person keypoints"),
        *("mensch", "menschen", "personen", "fußgänger", "personne", "personnes", "piéton", "piétons"),
        *(
            "persona",
            "personas",
            "peatón",
            "peatones",
            "pessoa",
            "pessoas",
            "человек",
            "人",
            "人物",
            "人間",
            "行人",
            "歩行者",
            "사람",
        ),
    }
)
"""Names of categories of people, in lower case."""

COCO_PERSON = "1"
_CHOOSE = "Choose one: --category NAME, for training --set data.category=NAME."


@dataclass(frozen=True)
class Category:
    """A category that a file lists."""

    id: Id
    name: str
    keypoints: Any
    """As the file gives them; None or empty where it gives none."""
    skeleton: Any
    """Limbs, as the file gives them."""
    place: str

    @property
    def key(self) -> str:
        """Its id, for comparing."""
        return values.id_key(self.id)

    @property
    def is_people(self) -> bool:
        """Whether its name is one for people."""
        return is_people(self.name)

    def __str__(self) -> str:
        return f"{self.name}, id {self.id}"


def is_people(name: str) -> bool:
    """Name of a category -> whether it is one for people, whatever its case: "Person_Keypoints"."""
    return " ".join(re.split(r"[\W_]+", name.strip().lower())) in PEOPLE


def read_categories(records: Sequence[Any]) -> list[Category]:
    """List `categories` of a COCO file -> the categories; InputError for one without an id."""
    found: list[Category] = []
    for index, record in enumerate(records):
        place = f"categories[{index}]"
        name = record.get("name")
        category_id = values.as_id(record.get("id"), f"{place}.id")
        named = str(category_id if values.is_absent(name) else name)
        category = Category(category_id, named, record.get("keypoints"), record.get("skeleton"), place)
        # Merged files list a category again and again.
        if not any(replace(category, place=known.place) == known for known in found):
            found.append(category)
    return found


def choose(
    categories: Sequence[Category],
    used: Counter[str],
    wanted: Id | None,
    *,
    expected: Id | None = None,
    posed: bool,
) -> Category:
    """Categories, and how often each id is used -> the category of the people.

    Args:
        wanted: the one that the user names, by its name or id.
        expected: id that it most likely has: that of the labels.
        posed: it needs keypoints.

    Raises:
        InputError: none fits, or several do.
    """
    if wanted is not None:
        return _named(categories, wanted)
    with_keypoints = [category for category in categories if category.keypoints]
    candidates = with_keypoints
    if not posed:
        candidates = with_keypoints or [category for category in categories if category.is_people] or list(categories)
    # A category that no record is of is no candidate where others are in use.
    in_use = [category for category in candidates if used[category.key]]
    candidates = in_use or candidates
    if expected is not None:
        candidates = [category for category in candidates if category.key == values.id_key(expected)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = "; ".join(map(str, candidates))
        what = "have keypoints" if posed else "may be that of the people"
        raise InputError(f"several categories {what}: {names}. {_CHOOSE}")
    raise InputError('no category lists keypoint names; add "keypoints" to categories[0], like ["nose", "tail"].')


def choose_id(used: Counter[str], wanted: Id | None, expected: Id | None = None) -> str | None:
    """Category ids of detections, which list no categories -> the id of the people; None: no detection has one.

    The only one, or one that is a name for people, or COCO's 1, unless 0 is used as well: then ids may count from 0.
    """
    if wanted is not None and (expected is None or values.id_key(wanted) in used):
        return values.id_key(wanted)
    # The labels' person may be 1 where the detector counts from 0, and its 1 is another category.
    is_certain = wanted is not None or "0" not in used or len(used) == 1
    if expected is not None and values.id_key(expected) in used and (is_certain or values.id_key(expected) == "0"):
        return values.id_key(expected)
    named = [key for key in used if is_people(key)]
    if len(used) <= 1 or len(named) == 1:
        return next(iter(named or used), None)
    if COCO_PERSON in used and "0" not in used and not named:
        return COCO_PERSON
    raise InputError(f"the detections are of the categories {', '.join(sorted(used))}. {_CHOOSE}")


def _named(categories: Sequence[Category], wanted: Id) -> Category:
    key = values.id_key(wanted)
    found = [category for category in categories if key in (category.key, category.name)]
    found = found or [category for category in categories if key.lower() == category.name.strip().lower()]
    if len(found) == 1:
        return found[0]
    known = "; ".join(map(str, categories)) or "none"
    raise InputError(f"{len(found)} categories are called {key}; the file lists {known}.")
