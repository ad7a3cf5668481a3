"""Poses: the result type of all pose estimation in featherpose."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.size import Size
from featherpose.skeleton import Skeleton

MIN_KEYPOINT_SCORE = 0.2
"""Keypoints at or below this score do not count in a person's score (Xiao et al. 2018, their released evaluation)."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of N persons in one image of `image_size`.

    keypoints (N, K, 2) x, y in pixels, (0, 0) the center of the top-left one; scores (N, K); boxes_xyxy (N, 4) left,
    top, right, bottom; box_scores (N,); all float32. ids (N,) int64 where persons were tracked, else None.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    skeleton: Skeleton
    image_size: Size
    ids: NDArray[np.int64] | None = None

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
        )

    def __iter__(self) -> Iterator["Poses"]:
        return (self[i] for i in range(len(self)))

    @property
    def person_scores(self) -> NDArray[np.float32]:
        """(N,) box score x mean of the keypoint scores above 0.2; 0 for a person without such a keypoint."""
        confident = self.scores > MIN_KEYPOINT_SCORE
        mean = (self.scores * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)
        return (self.box_scores * mean).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Poses -> plain dict: every keypoint by its name, pixels rounded to 0.01 and scores to 0.0001."""
        instances = [self._person(i) for i in range(len(self))]
        return {"image_size": self.image_size.to_dict(), "skeleton": self.skeleton.name, "instances": instances}

    @classmethod
    def from_dict(cls, values: dict[str, Any], skeleton: Skeleton) -> "Poses":
        """Plain dict, as `to_dict` writes it -> Poses; InputError when its skeleton is not `skeleton`."""
        persons, size = values["instances"], Size.of(values["image_size"])
        if values["skeleton"] != skeleton.name:
            raise InputError(f"These poses have the skeleton {values['skeleton']!r}, wanted {skeleton.name!r}.")
        if not persons:
            return cls.empty(skeleton, size)  # without persons, whether ids were requested is unknown
        keypoints = np.array(
            [[person["keypoints"][name] for name in skeleton.keypoint_names] for person in persons], np.float32
        )
        boxes, scores = (np.array([person[key] for person in persons], np.float32) for key in ("box_xyxy", "box_score"))
        ids = np.array([person["id"] for person in persons]) if "id" in persons[0] else None
        return cls(keypoints[..., :2], keypoints[..., 2], boxes, scores, skeleton, size, ids)

    def _person(self, i: int) -> dict[str, Any]:
        rows = zip(self.skeleton.keypoint_names, self.keypoints[i].tolist(), self.scores[i].tolist(), strict=True)
        person: dict[str, Any] = {
            "score": round(float(self.person_scores[i]), 4),
            "box_xyxy": [round(value, 2) for value in self.boxes_xyxy[i].tolist()],
            "box_score": round(float(self.box_scores[i]), 4),
            "keypoints": {name: [round(x, 2), round(y, 2), round(score, 4)] for name, (x, y), score in rows},
        }
        return person if self.ids is None else {"id": int(self.ids[i]), **person}


def _index_type(index: int | ArrayLike) -> type:
    """numpy reads an empty list as float, which cannot index."""
    return np.int64 if np.size(index) == 0 else np.asarray(index).dtype.type
