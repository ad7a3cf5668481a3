"""Names of keypoints: left and right, and conversion of other projects' spellings to COCO's.

A side is a word: left, LEFT, links, gauche, 左. A letter is one where it stands alone (hip.L, LHip) and the name has a
counterpart or a part of a body; glued to other letters (lhip) it is one where both is true: lip and rip are no pair.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LEFT = "left"
RIGHT = "right"

_LEFT_WORDS = "left links linke linker linkes linken gauche izquierdo izquierda izq 左 ひだり"
_RIGHT_WORDS = "right rechts rechte rechter rechtes rechten droit droite derecho derecha dcho dcha 右 みぎ"
_SIDES: dict[str, str] = {
    **dict.fromkeys(_LEFT_WORDS.split(), LEFT),
    **dict.fromkeys(_RIGHT_WORDS.split(), RIGHT),
}
"""Words in English, German, French, Spanish, Chinese and Japanese."""
_LETTERS = {"l": LEFT, "lt": LEFT, "r": RIGHT, "rt": RIGHT}
_OPPOSITE = {LEFT: RIGHT, RIGHT: LEFT}
_PART_NAMES = """
    eye ear ears brow eyebrow cheek jaw temple shoulder sho shldr elbow elb wrist wri wrst hand palm thumb index finger
    pinky pinkie knuckle hip knee kne ankle ank foot feet heel toe toes bigtoe smalltoe arm forearm upperarm leg thigh
    shin calf glove shoe boot paw wing hoof horn antler claw fin leaf corner mouth nostril pupil iris
"""
_PARTS = frozenset(_PART_NAMES.split())
"""Parts of bodies and their clothes that exist on both sides, by which a letter in front is known to be a side."""
_GLUED_WORD = re.compile(r"(?P<side>left|right)(?P<rest>.+)|(?P<rest_2>.+?)(?P<side_2>left|right)")
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[左右])|(?=[左右])")  # hip|Left, L|Hip
_WORD = re.compile(r"[^\W\d_]+|\d+")


class _Reading(NamedTuple):
    """One way to read a name: its side and its other words."""

    side: str
    words: tuple[str, ...]
    needs_counterpart: bool

    @property
    def counterpart(self) -> tuple[str, tuple[str, ...]]:
        """Side and words of the keypoint on the other side."""
        return _OPPOSITE[self.side], tuple(_OPPOSITE.get(word, word) for word in self.words)

    def __str__(self) -> str:
        return "_".join((self.side, *self.words))


def standard_names(keypoint_names: Sequence[str]) -> tuple[str, ...]:
    """Names of all keypoints of a skeleton -> the same names in COCO's spelling, side first.

    >>> standard_names(["Nose", "LHip", "hip.R", "knee right", "lsho", "rsho"])
    ('nose', 'left_hip', 'right_hip', 'right_knee', 'left_sho', 'right_sho')
    """
    tokens = [tuple(_WORD.findall(_NEW_WORD.sub(" ", keypoint).lower())) for keypoint in keypoint_names]
    readings = [_read(words) for words in tokens]
    known = {(reading.side, reading.words) for reading in readings if reading}
    return tuple(
        str(reading) if reading and (not reading.needs_counterpart or reading.counterpart in known) else "_".join(words)
        for reading, words in zip(readings, tokens, strict=True)
    )


def _read(words: tuple[str, ...]) -> _Reading | None:
    """Words of a name in lower case -> the reading with a side, None where no word is one.

    The first side counts: in "left eye, right corner" the second tells two keypoints of one side apart.
    """
    plain = tuple(_SIDES.get(word, word) for word in words)
    for index, word in enumerate(plain):
        rest = plain[:index] + plain[index + 1 :]
        if word in _OPPOSITE:
            return _Reading(word, rest, needs_counterpart=False)
    for index, word in enumerate(plain):
        before, after = plain[:index], plain[index + 1 :]
        if word in _LETTERS:
            return _Reading(_LETTERS[word], before + after, needs_counterpart=_PARTS.isdisjoint(before + after))
        if glued := _GLUED_WORD.fullmatch(word):
            side = glued["side"] or glued["side_2"]
            part = glued["rest"] or glued["rest_2"]
            return _Reading(side, (*before, part, *after), needs_counterpart=part not in _PARTS)
        if word[:1] in _LETTERS and word[1:] in _PARTS:
            return _Reading(_LETTERS[word[0]], (*before, word[1:], *after), needs_counterpart=True)
    return None


def mirrored_name(name: str) -> str:
    """Standard name -> name of the keypoint on the other side; unchanged for a keypoint without a side."""
    return "_".join(_OPPOSITE.get(word, word) for word in name.split("_"))


def sideless_name(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


def is_left_of_pair(name: str, names: Iterable[str]) -> bool:
    return name.split("_")[0] == LEFT and mirrored_name(name) in names
