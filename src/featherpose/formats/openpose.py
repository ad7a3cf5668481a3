"""OpenPose's output (Cao et al. 2019; its documentation, "JSON Output Format", version 1.3): one JSON file per image.

openpose/NAME_keypoints.json has `people`, each with `person_id` ([-1] where persons were not tracked) and
`pose_keypoints_2d`: x, y, score of each keypoint. COCO's 17 keypoints are written as the 18 of OpenPose's model "COCO":
another order, and a neck in the middle between the shoulders with the lower of their scores. Other skeletons keep their
own order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import file_names, keypoints
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, Skeleton

FOLDER = "openpose"
COCO18 = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
"""Keypoints of OpenPose's model "COCO" in their order, in COCO's words."""

_UNTRACKED = -1
_NOT_ESTIMATED = (
    *("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"),
    *("pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d"),
)


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/openpose/NAME_keypoints.json; returns what was written.

    InputError when two images would have the same file.
    """
    paths = file_names.paths(folder / FOLDER, poses, "_keypoints.json")
    for name, found in poses.items():
        files.make_folder(paths[name].parent)
        files.replace(paths[name], json.dumps(to_dict(found)).encode())
    return f"{FOLDER}/*_keypoints.json"


def read(folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size], *, shard: str = "") -> dict[str, Poses]:
    """FOLDER/openpose and the images' sizes -> Poses by image name; InputError names the first file that is wrong.

    Box scores are 1, boxes the bounds of the keypoints with a score above 0.
    """
    poses: dict[str, Poses] = {}
    for name, path in file_names.paths(folder / FOLDER, image_sizes, "_keypoints.json").items():
        values = files.read_json(path, f"Wanted OpenPose's output for {name}.")
        try:
            poses[name] = from_dict(values, skeleton, image_sizes[name])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return poses


def to_dict(poses: Poses) -> dict[str, Any]:
    """Poses of one image -> the content of its file."""
    poses = keypoints.without_nan(poses)
    points = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2, dtype=np.float64)
    if _is_coco(poses.skeleton):
        points = _to_coco18(points)
    people = [
        {
            "person_id": [_UNTRACKED if poses.ids is None else int(poses.ids[i])],
            "pose_keypoints_2d": _rounded(points[i]),
            **{key: [] for key in _NOT_ESTIMATED},
        }
        for i in range(len(poses))
    ]
    return {"version": 1.3, "people": people}


def from_dict(values: Any, skeleton: Skeleton, image_size: Size) -> Poses:
    """Content of the file of one image -> Poses."""
    people = values.get("people") if isinstance(values, dict) else None
    if not isinstance(people, list):
        raise InputError('wanted an object with the list "people", as OpenPose writes it.')
    persons = [_keypoints(person, number, skeleton) for number, person in enumerate(people)]
    ids = [_id(person, number) for number, person in enumerate(people)]
    tracked = any(track != _UNTRACKED for track in ids)
    return keypoints.to_poses(np.array(persons), skeleton, image_size, ids if tracked else None)


def _is_coco(skeleton: Skeleton) -> bool:
    return skeleton.keypoint_names == COCO17.keypoint_names


def _to_coco18(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 17, 3) in COCO's order -> (N, 18, 3) in OpenPose's, with the neck."""
    names = COCO17.keypoint_names
    shoulders = points[:, [names.index("left_shoulder"), names.index("right_shoulder")]]
    neck = np.concatenate([shoulders[..., :2].mean(axis=1), shoulders[..., 2:].min(axis=1)], axis=1)
    with_neck = np.concatenate([points, neck[:, None]], axis=1)
    order = [(*names, "neck").index(name) for name in COCO18]
    return with_neck[:, order]


def _rounded(points: NDArray[np.float64]) -> list[float]:
    """(K, 3) x, y, score -> 3 K numbers; pixels to 0.01, scores to 0.0001."""
    rows = [[round(x, 2), round(y, 2), round(score, 4)] for x, y, score in points.tolist()]
    return [number for row in rows for number in row]


def _keypoints(person: Any, number: int, skeleton: Skeleton) -> NDArray[np.float64]:
    """One of `people` -> (K, 3) x, y, score in the skeleton's order."""
    coco = _is_coco(skeleton)
    count = len(COCO18) if coco else skeleton.num_keypoints
    values = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    of = "OpenPose's model COCO" if coco else skeleton.name
    keypoints.check(values, count, f"person {number}: pose_keypoints_2d", of)
    points = np.array(values, np.float64).reshape(count, 3)
    return points[[COCO18.index(name) for name in skeleton.keypoint_names]] if coco else points


def _id(person: dict[str, Any], number: int) -> int:
    """One of `people` -> its id; files before version 1.2 have none."""
    ids = person.get("person_id", [_UNTRACKED])
    if not isinstance(ids, list) or len(ids) != 1 or not files.is_whole(ids[0]):
        raise InputError(f"person {number}: person_id is {ids!r}, wanted a list of one whole number.")
    return ids[0]
