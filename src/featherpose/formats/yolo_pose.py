"""YOLO pose labels (docs.ultralytics.com/datasets/pose), to train on: one text file per image and a data.yaml.

yolo/labels/NAME.txt has one line per person: the class (0, person), the box as center x, center y, width, height, then
x, y, v of each keypoint. Coordinates are fractions of the image's width or height; v is 0 for a keypoint without label,
1 for an occluded one and 2 for a visible one, as in COCO.

A score says how sure the network is, not whether a keypoint is occluded, so 1 is never written: a keypoint above 0.2
is visible, all others are unlabeled and ignored in training. A keypoint outside the image, which training programs
refuse, is unlabeled, too, with 0 as its coordinates. Boxes are clipped to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.errors import InputError
from featherpose.formats import file_names, keypoints
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

FOLDER = "yolo"
_SCORE_OF_V = {0: 0.0, 1: MIN_KEYPOINT_SCORE, 2: 1.0}
_DIGITS = 7
"""Decimals of a coordinate: 0.01 px in an image 100,000 pixels wide."""


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/yolo/data.yaml and labels/; returns what was written.

    The images themselves belong into FOLDER/yolo/images, with the same names. InputError when two images would have
    the same label file.
    """
    paths = file_names.paths(folder / FOLDER / "labels", poses, ".txt")
    for name, found in poses.items():
        files.make_folder(paths[name].parent)
        files.replace(paths[name], "".join(f"{line}\n" for line in to_lines(found)).encode())
    files.make_folder(folder / FOLDER)
    files.replace(folder / FOLDER / "data.yaml", _data_yaml(skeleton).encode())
    return f"{FOLDER}/data.yaml, {FOLDER}/labels"


def read(folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size], *, shard: str = "") -> dict[str, Poses]:
    """FOLDER/yolo/labels and the images' sizes -> Poses by image name; InputError names the first line that is wrong.

    Scores of keypoints are 1 where v is 2, 0.2 where v is 1 and 0 where v is 0; box scores are 1.
    """
    poses: dict[str, Poses] = {}
    for name, path in file_names.paths(folder / FOLDER / "labels", image_sizes, ".txt").items():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}). Wanted the labels of {name}.") from None
        poses[name] = from_text(text, skeleton, image_sizes[name], str(path))
    return poses


def to_lines(poses: Poses) -> list[str]:
    """Poses of one image -> one line of its label file per person."""
    poses = keypoints.without_nan(poses)
    sides = np.array(poses.image_size.xy, np.float64)
    corners = np.clip(poses.boxes_xyxy.astype(np.float64).reshape(-1, 2, 2), 0, sides) / sides  # (N, 2, 2)
    centers = corners.mean(axis=1)
    extents = corners[:, 1] - corners[:, 0]
    points = poses.keypoints.astype(np.float64)
    # Pixel centers have whole coordinates, so the image reaches half a pixel beyond the first and the last.
    inside = np.asarray(((points >= -0.5) & (points <= sides - 0.5)).all(axis=2))
    points = np.where(inside[..., None], points.clip(0), 0) / sides
    v = np.where(inside & (poses.scores > MIN_KEYPOINT_SCORE), 2, 0)
    return [_line([*centers[i], *extents[i]], points[i], v[i]) for i in range(len(poses))]


def from_text(text: str, skeleton: Skeleton, image_size: Size, name: str) -> Poses:
    """Content of a label file -> Poses; InputError begins with `name` and the line."""
    width, height = image_size.xy
    boxes: list[list[float]] = []
    persons: list[NDArray[np.float64]] = []
    for line_number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = _parse(line.split(), skeleton)
        except InputError as error:
            raise InputError(f"{name}, line {line_number}: {error}") from None
        x, y, w, h = values[1:5]
        boxes.append([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height])
        person = np.array(values[5:]).reshape(-1, 3)
        scores = [_SCORE_OF_V[int(v)] for v in person[:, 2]]
        persons.append(np.column_stack([person[:, 0] * width, person[:, 1] * height, scores]))
    if not persons:
        return Poses.empty(skeleton, image_size)
    found = keypoints.to_poses(persons, skeleton, image_size)
    return Poses(found.keypoints, found.scores, np.array(boxes), found.box_scores, skeleton, image_size)


def _line(box: list[float], points: NDArray[np.float64], v: NDArray[np.int64]) -> str:
    numbers = [f"{value:.{_DIGITS}f}" for value in box]
    for (x, y), visibility in zip(points.tolist(), v.tolist(), strict=True):
        numbers += [f"{x:.{_DIGITS}f}", f"{y:.{_DIGITS}f}", str(visibility)]
    return " ".join(["0", *numbers])


def _parse(words: list[str], skeleton: Skeleton) -> list[float]:
    """Words of a line -> its numbers: class, box (4), keypoints (3 K)."""
    wanted = 5 + 3 * skeleton.num_keypoints
    if len(words) != wanted:
        raise InputError(
            f"{len(words)} numbers, wanted {wanted}: class, 4 of the box, 3 for each of {skeleton.num_keypoints}"
            f" keypoints ({skeleton.name})."
        )
    values = [keypoints.number(word, f"number {position}") for position, word in enumerate(words, 1)]
    if values[0] != 0:
        raise InputError(f"the class is {words[0]}, wanted 0 (person).")
    unknown = [v for v in values[7::3] if v not in _SCORE_OF_V]
    if unknown:
        raise InputError(f"v of a keypoint is {unknown[0]:g}, wanted 0, 1 or 2.")
    return values


def _data_yaml(skeleton: Skeleton) -> str:
    """The description of the data set that YOLO's training reads. Its folders are relative to this file."""
    import yaml

    values = {
        "train": "images",
        "val": "images",
        "kpt_shape": [skeleton.num_keypoints, 3],
        "flip_idx": skeleton.flip_order.tolist(),
        "names": {0: "person"},
        "kpt_names": {0: list(skeleton.keypoint_names)},
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
