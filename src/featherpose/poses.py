"""Poses: the result type of all pose estimation in featherpose."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import files
from featherpose.errors import InputError, did_you_mean
from featherpose.size import Size
from featherpose.skeleton import Skeleton

MIN_KEYPOINT_SCORE = 0.2
"""Keypoints at or below this score do not count in a person's score (Xiao et al. 2018, their released evaluation)."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N persons in one image of `image_size`.

    keypoints (N, K, 2) x, y in pixels, (0, 0) the center of the top-left one; scores (N, K); boxes_xyxy (N, 4) left,
    top, right, bottom; box_scores (N,); all float32. ids (N,) int64 where persons were tracked, else None. interpolated
    (N, K) bool where gaps in a video were filled, else None: keypoints whose place is that between other frames, and
    whose score is that of this frame or, in a frame where the person was not found, of those frames. A number may be
    NaN where it is unknown.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    skeleton: Skeleton
    image_size: Size
    ids: NDArray[np.int64] | None = None
    interpolated: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        num_persons, num_keypoints = len(self.keypoints), self.skeleton.num_keypoints
        wanted = {
            "keypoints": (num_persons, num_keypoints, 2),
            "scores": (num_persons, num_keypoints),
            "boxes_xyxy": (num_persons, 4),
            "box_scores": (num_persons,),
        }
        for name, shape in wanted.items():
            array = np.asarray(getattr(self, name), np.float32)
            if array.shape != shape:
                raise InputError(f"Poses: {name} has the shape {array.shape}, wanted {shape} ({self.skeleton.name}).")
            object.__setattr__(self, name, array)
        if self.ids is not None and np.shape(self.ids) != (num_persons,):
            raise InputError(f"Poses: ids has the shape {np.shape(self.ids)}, wanted {(num_persons,)}.")
        if self.interpolated is not None and np.shape(self.interpolated) != wanted["scores"]:
            shape = np.shape(self.interpolated)
            raise InputError(f"Poses: interpolated has the shape {shape}, wanted {wanted['scores']}.")

    @classmethod
    def empty(cls, skeleton: Skeleton, image_size: Size) -> "Poses":
        """Result for an image without persons: N = 0."""
        keypoints = np.zeros((0, skeleton.num_keypoints, 2), np.float32)
        nothing = np.zeros(0, np.float32)
        return cls(keypoints, keypoints[..., 0], nothing.reshape(0, 4), nothing, skeleton, image_size)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.person_scores)
        return f"Poses({len(self)} x {self.skeleton.name}, person scores [{scores}], image {self.image_size})"

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, index: int | slice | ArrayLike) -> "Poses":
        """Integer, slice or index array -> Poses of the selected persons."""
        rows = np.arange(len(self))
        chosen = np.atleast_1d(rows[index if isinstance(index, slice) else np.asarray(index, _index_type(index))])
        return replace(
            self,
            keypoints=self.keypoints[chosen],
            scores=self.scores[chosen],
            boxes_xyxy=self.boxes_xyxy[chosen],
            box_scores=self.box_scores[chosen],
            ids=None if self.ids is None else self.ids[chosen],
            interpolated=None if self.interpolated is None else self.interpolated[chosen],
        )

    def __iter__(self) -> Iterator["Poses"]:
        return (self[i] for i in range(len(self)))

    @property
    def person_scores(self) -> NDArray[np.float32]:
        """(N,) box score x mean of the keypoint scores above 0.2; 0 for a person without such a keypoint."""
        confident = self.scores > MIN_KEYPOINT_SCORE
        mean = np.where(confident, self.scores, 0).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)
        return (self.box_scores * mean).astype(np.float32)

    def above(self, score: float) -> "Poses":
        """Poses of the persons whose person score is above `score`."""
        return self[self.person_scores > score]

    def keypoint(self, name: str) -> NDArray[np.float32]:
        """Name of a keypoint -> (N, 3) x, y in pixels and score of each person; InputError for an unknown name."""
        index = self._index(name)
        return np.concatenate([self.keypoints[:, index], self.scores[:, index, None]], axis=1)

    def angles(self, a: str, b: str, c: str, *, min_score: float = MIN_KEYPOINT_SCORE) -> NDArray[np.float32]:
        """Names of three keypoints -> (N,) angle at `b` between `a` and `c` in degrees, 0 to 180 (a straight arm).

        NaN for a person in whom one of the three has a score of `min_score` or less, or `a` or `c` coincides with `b`.
        """
        start, vertex, end = (self._index(name) for name in (a, b, c))
        first = (self.keypoints[:, start] - self.keypoints[:, vertex]).astype(np.float64)
        second = (self.keypoints[:, end] - self.keypoints[:, vertex]).astype(np.float64)
        cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        # The arc cosine would lose half of the digits near 0 and 180 degrees.
        degrees = np.degrees(np.arctan2(np.abs(cross), (first * second).sum(axis=1)))
        known = (self.scores[:, [start, vertex, end]] > min_score).all(axis=1)
        known &= first.any(axis=1) & second.any(axis=1)
        return np.where(known, degrees, np.nan).astype(np.float32)

    def _index(self, name: str) -> int:
        names = self.skeleton.keypoint_names
        if name not in names:
            raise InputError(f"The skeleton {self.skeleton.name} has no keypoint {name!r}.{did_you_mean(name, names)}")
        return names.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Poses -> plain dict for JSON: every keypoint by its name, pixels rounded to 0.01 and scores to 0.0001.

        None (JSON null) stands for a number that is not finite.
        """
        instances = [self._person(i) for i in range(len(self))]
        return {"image_size": self.image_size.to_dict(), "skeleton": self.skeleton.name, "instances": instances}

    @classmethod
    def from_dict(cls, values: dict[str, Any], skeleton: Skeleton) -> "Poses":
        """Plain dict, as `to_dict` writes it -> Poses.

        None is read as NaN. InputError when its skeleton is not `skeleton`, and for the first value that is missing or
        no finite number.
        """
        _require(values, ("instances", "image_size", "skeleton"), "The poses of an image")
        persons = values["instances"]
        size = Size.of(values["image_size"])
        if values["skeleton"] != skeleton.name:
            raise InputError(f"These poses have the skeleton {values['skeleton']!r}, wanted {skeleton.name!r}.")
        if not isinstance(persons, list):
            raise InputError(f"instances is a JSON {type(persons).__name__}, wanted a list.")
        if not persons:
            return cls.empty(skeleton, size)  # without persons, whether ids were requested is unknown
        tracked = isinstance(persons[0], dict) and "id" in persons[0]
        for number, person in enumerate(persons):
            _check_person(person, f"instance {number}", skeleton, tracked=tracked)
        keypoints = np.array(
            [[person["keypoints"][name] for name in skeleton.keypoint_names] for person in persons], np.float32
        )
        boxes = np.array([person["box_xyxy"] for person in persons], np.float32)
        box_scores = np.array([person["box_score"] for person in persons], np.float32)
        ids = np.array([person["id"] for person in persons], np.int64) if tracked else None
        filled = None
        if any("interpolated" in person for person in persons):
            flags = [person.get("interpolated", []) for person in persons]
            filled = np.array([[name in flagged for name in skeleton.keypoint_names] for flagged in flags], bool)
        return cls(keypoints[..., :2], keypoints[..., 2], boxes, box_scores, skeleton, size, ids, filled)

    def to_supervision(self) -> Any:
        """Poses -> `supervision.KeyPoints` with keypoint scores, class "person" and, where tracked, the ids.

        InputError when supervision is not installed; featherpose does not depend on it.
        """
        try:
            import supervision  # pyright: ignore[reportMissingImports]  (optional)
        except ImportError:
            raise InputError("to_supervision needs one more package. Type: pip install supervision") from None
        data: dict[str, Any] = {"class_name": np.full(len(self), "person")}
        if self.ids is not None:
            data["tracker_id"] = self.ids
        # supervision renamed the scores in 0.29.
        renamed = "keypoint_confidence" in supervision.KeyPoints.__dataclass_fields__
        scores = {"keypoint_confidence" if renamed else "confidence": self.scores}
        return supervision.KeyPoints(xy=self.keypoints, class_id=np.zeros(len(self), int), data=data, **scores)

    def _repr_svg_(self) -> str:
        """The poses on a gray canvas of the image's shape, which notebooks display; limbs that end in a keypoint at or
        below 0.2 are dashed.

        `draw.draw` puts them on the image. It stands above this module and needs OpenCV, so this is a drawing in SVG.
        """
        width, height = self.image_size.xy
        shapes = "".join(self._svg_person(i) for i in range(len(self)))
        scale = min(1.0, 480 / max(width, height))
        shown = f'width="{scale * width:.0f}" height="{scale * height:.0f}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {shown}>'
            f'<rect width="{width}" height="{height}" fill="#e4e4e8"/>'
            f'<g stroke-width="{max(width, height) / 160:.2f}" stroke-linecap="round">{shapes}</g></svg>'
        )

    def _svg_person(self, i: int) -> str:
        points = self.keypoints[i] + 0.5  # in SVG the corner of the top-left pixel is (0, 0)
        drawable = np.isfinite(points).all(axis=1) & (self.scores[i] > 0)
        confident = self.scores[i] > MIN_KEYPOINT_SCORE
        dash = max(self.image_size.xy) / 80
        shapes: list[str] = []
        for (a, b), color in zip(self.skeleton.limbs, self.skeleton.colors, strict=True):
            if drawable[a] and drawable[b]:
                (x1, y1), (x2, y2) = points[[a, b]].tolist()
                faint = "" if confident[a] and confident[b] else f' stroke-opacity="0.4" stroke-dasharray="{dash:.2f}"'
                ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
                shapes.append(f'<line {ends} stroke="rgb{color}"{faint}/>')
        for x, y in points[drawable & confident].tolist():
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{dash / 3:.2f}" fill="#222"/>')
        return "".join(shapes)

    def _person(self, i: int) -> dict[str, Any]:
        rows = zip(self.skeleton.keypoint_names, self.keypoints[i].tolist(), self.scores[i].tolist(), strict=True)
        person: dict[str, Any] = {
            "score": _rounded(float(self.person_scores[i]), 4),
            "box_xyxy": [_rounded(value, 2) for value in self.boxes_xyxy[i].tolist()],
            "box_score": _rounded(float(self.box_scores[i]), 4),
            "keypoints": {name: [_rounded(x, 2), _rounded(y, 2), _rounded(score, 4)] for name, (x, y), score in rows},
        }
        if self.interpolated is not None:
            flags = zip(self.skeleton.keypoint_names, self.interpolated[i].tolist(), strict=True)
            person["interpolated"] = [name for name, is_flagged in flags if is_flagged]
        return person if self.ids is None else {"id": int(self.ids[i]), **person}


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _index_type(index: int | ArrayLike) -> type:
    """numpy reads an empty list as float, which cannot index."""
    return np.int64 if np.size(index) == 0 else np.asarray(index).dtype.type


def _check_person(person: Any, where: str, skeleton: Skeleton, *, tracked: bool) -> None:
    """InputError for the first value of an instance, as `to_dict` writes it, that is missing or wrong."""
    _require(person, ("box_xyxy", "box_score", "keypoints", *(["id"] if tracked else [])), where)
    if not _are_numbers(person["box_xyxy"], 4):
        raise InputError(f"{where}: box_xyxy is {person['box_xyxy']!r}, wanted 4 numbers: left, top, right, bottom.")
    if not _are_numbers([person["box_score"]], 1):
        raise InputError(f"{where}: box_score is {person['box_score']!r}, wanted a number.")
    if tracked and not files.is_whole(person["id"]):
        raise InputError(f"{where}: id is {person['id']!r}, wanted a whole number.")
    keypoints = person["keypoints"]
    _require(keypoints, skeleton.keypoint_names, f"{where}: keypoints")
    for name, values in keypoints.items():
        if name not in skeleton.keypoint_names:
            raise InputError(f"{where}: unknown keypoint {name!r}.{did_you_mean(name, skeleton.keypoint_names)}")
        if not _are_numbers(values, 3):
            raise InputError(f"{where}: {name} is {values!r}, wanted 3 numbers: x, y, score.")
    flagged = person.get("interpolated", [])
    if not isinstance(flagged, list):
        raise InputError(f"{where}: interpolated is {flagged!r}, wanted a list of names of keypoints.")
    for name in flagged:
        if name not in skeleton.keypoint_names:
            hint = did_you_mean(str(name), skeleton.keypoint_names)
            raise InputError(f"{where}: interpolated names the unknown keypoint {name!r}.{hint}")


def _are_numbers(values: Any, count: int) -> bool:
    """JSON value -> whether it is a list of `count` finite numbers or null, which stands for NaN."""
    return isinstance(values, list) and files.is_numbers([0 if value is None else value for value in values], count)


def _require(values: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{where}: a JSON {type(values).__name__}, wanted an object with {', '.join(keys)}.")
    missing = [key for key in keys if key not in values]
    if missing:
        raise InputError(f"{where}: lacks the key {missing[0]!r}.")
