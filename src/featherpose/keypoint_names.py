"""Names of keypoints: left and right, and conversion of other projects' spellings to COCO's."""

import re
from collections.abc import Iterable, Sequence


def standard_names(keypoint_names: Sequence[str]) -> tuple[str, ...]:
    """Names of all keypoints of a skeleton -> the same names in COCO's spelling, side first.

    >>> standard_names(["Nose", "LHip", "hip.R", "knee right", "lsho", "rsho"])
    ('nose', 'left_hip', 'right_hip', 'right_knee', 'left_sho', 'right_sho')
    """
    names = [_standard_name(keypoint) for keypoint in keypoint_names]
    # "lsho" is a left shoulder only where there is an "rsho", too; "lip" alone is a lip.
    left = {name[1:] for name in names if name[:1] == "l"}
    right = {name[1:] for name in names if name[:1] == "r"}
    return tuple(_with_side(name, left & right) for name in names)


def _with_side(name: str, glued: set[str]) -> str:
    """Name, and the names that follow both an l and an r -> "left_sho" for "lsho"; other names unchanged."""
    letter = name[:1]
    rest = name[1:]
    if letter in _LETTERS and rest in glued:
        return _LETTERS[letter] + rest
    return name


_LETTERS = {"l": "left_", "r": "right_"}
_SIDES = {**dict.fromkeys(("left", "l", "lt"), "left"), **dict.fromkeys(("right", "r", "rt"), "right")}
_OPPOSITE = {"left": "right", "right": "left"}


_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # hip|Left, L|Hip
_WORD = re.compile(r"left|right|(?:(?!left|right)[^\W\d_])+|\d+")


def _standard_name(keypoint: str) -> str:
    """Name of one keypoint -> its words in lower case, with the first side among them moved to the front."""
    found: list[str] = _WORD.findall(_NEW_WORD.sub(" ", keypoint).lower())
    words = [_SIDES.get(word, word) for word in found]
    # Only the first one: in "left eye, right corner" the second tells two keypoints of one side apart.
    side = next((word for word in words if word in _OPPOSITE), None)
    if side:
        words.remove(side)
        words.insert(0, side)
    return "_".join(words)


def mirrored_name(name: str) -> str:
    """Standard name -> name of the keypoint on the other side; unchanged for a keypoint without a side."""
    return "_".join(_OPPOSITE.get(word, word) for word in name.split("_"))


def sideless_name(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


def is_left_of_pair(name: str, names: Iterable[str]) -> bool:
    return name.startswith("left_") and mirrored_name(name) in names
