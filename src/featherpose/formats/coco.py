"""COCO's keypoint result format (cocodataset.org, results format): a list with one dict per person.

Where persons were tracked, each dict has the id as `track_id`, as in PoseTrack's annotations; COCO's evaluation ignores
it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featherpose import files
from featherpose.boxes import xywh_to_xyxy, xyxy_to_xywh
from featherpose.errors import InputError
from featherpose.formats import file_names
from featherpose.formats import keypoints as from_keypoints
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

PERSON = 1
FILE = "coco_results.json"

_NUMBER = re.compile(r"(?:COCO_\w+_)?(\d+)")  # 000000000785.jpg, COCO_val2014_000000000785.jpg

Result = Mapping[str, Any]


def write(
    folder: Path,
    poses: Mapping[str, Poses],
    skeleton: Skeleton,
    model: str = "",
    *,
    shard: str = "",
    names: Sequence[str] | None = None,
) -> str:
    """Poses by image name -> FOLDER/coco_results.json; returns what was written and what `image_id` is.

    `names`, those of all images of the run, decide what it is: the same in every shard, and if an image fails.
    """
    ids, meaning = image_ids(list(poses) if names is None else names)
    results: list[dict[str, Any]] = []
    for name, found in poses.items():
        results += to_results(from_keypoints.without_nan(found), ids[name])
    lines = ",\n".join(json.dumps(result) for result in results)
    file_name = file_names.of_shard(FILE, shard)
    files.make_folder(folder)
    files.replace(folder / file_name, f"[\n{lines}\n]\n".encode())
    return f"{file_name} (image_id: {meaning})"


def read_results(path: Path) -> list[dict[str, Any]]:
    """Path of a file in the results format -> its content; InputError where it is no list of poses."""
    wanted = "Wanted COCO keypoint results: a list of image_id, category_id, keypoints and score."
    results = files.read_json(path, wanted)
    if not isinstance(results, list) or not all(
        isinstance(result, dict) and "keypoints" in result for result in results
    ):
        raise InputError(f"{path}: no list of poses. {wanted}")
    return results


def read(folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size], *, shard: str = "") -> dict[str, Poses]:
    """FOLDER/coco_results.json and the sizes of all images of the run -> Poses by image name, see `from_results`."""
    path = folder / file_names.of_shard(FILE, shard)
    results = files.read_json(path, "Wanted keypoint results of COCO.")
    if not isinstance(results, list):
        raise InputError(f"{path}: a JSON {type(results).__name__}, wanted a list with one object per person.")
    ids, _ = image_ids(list(image_sizes))
    sizes = {ids[name]: size for name, size in image_sizes.items()}
    try:
        found = from_results(results, skeleton, sizes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {name: found[ids[name]] for name in image_sizes}


def image_ids(names: Sequence[str]) -> tuple[dict[str, int | str], str]:
    """Names of images -> `image_id` of each, and what it is, in words.

    It is the number in the file name where each name is one, as in COCO ("000000000785.jpg" is 785), and no two are the
    same; else the name.
    """
    numbers = {name: image_number(name) for name in names}
    found = [number for number in numbers.values() if number is not None]
    if len(found) == len(names) == len(set(found)):
        return {name: number for name, number in numbers.items() if number is not None}, "the number in the file name"
    return {name: name for name in names}, "the image name, because the file names are not all different numbers"


def image_number(name: str) -> int | None:
    """Name of an image -> its number, None where the name is not a number behind COCO's prefix.

    >>> image_number("val2017/000000000785.jpg"), image_number("COCO_val2014_000000000785.jpg")
    (785, 785)
    >>> image_number("IMG_2034.jpg") is None
    True
    """
    match = _NUMBER.fullmatch(PurePosixPath(name).stem)
    return int(match[1]) if match else None


def to_results(poses: Poses, image_id: int | str, category_id: int | str = PERSON) -> list[dict[str, Any]]:
    """Poses of one image -> its COCO results. `score` is the person's score; v of each keypoint is its score."""
    keypoints = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1, dtype=np.float64).round(4)
    boxes = xyxy_to_xywh(poses.boxes_xyxy).astype(np.float64)
    results: list[dict[str, Any]] = []
    for i in range(len(poses)):
        result = {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": keypoints[i].ravel().tolist(),
            "score": float(poses.person_scores[i]),
            "bbox": boxes[i].round(2).tolist(),
        }
        if poses.ids is not None:
            result["track_id"] = int(poses.ids[i])
        results.append(result)
    return results


def from_results(
    results: Iterable[Result], skeleton: Skeleton, image_sizes: Mapping[int | str, Size]
) -> dict[int | str, Poses]:
    """COCO results and each image's size -> Poses by image id; empty Poses for an image without results.

    A person without `bbox` gets the bounding box of the keypoints. Box scores are chosen so that the person scores
    equal the `score` of the results.
    """
    rows_by_image: dict[int | str, list[Result]] = {image_id: [] for image_id in image_sizes}
    for number, result in enumerate(results):
        _check(result, number, skeleton)
        if result["image_id"] not in rows_by_image:
            raise InputError(f"COCO results: image_id {result['image_id']!r} is not among the given images.")
        rows_by_image[result["image_id"]].append(result)
    return {image_id: _poses(rows, skeleton, image_sizes[image_id]) for image_id, rows in rows_by_image.items()}


def _check(result: Any, number: int, skeleton: Skeleton) -> None:
    """InputError for the first key of a result that is missing or wrong."""
    where = f"COCO results: result {number}"
    for key in ("image_id", "keypoints", "score"):
        if not isinstance(result, dict) or key not in result:
            raise InputError(f"{where} lacks the key {key!r}.")
    if not isinstance(result["image_id"], int | str):
        raise InputError(f"{where}: image_id is {result['image_id']!r}, wanted a number or a name.")
    from_keypoints.check(result["keypoints"], skeleton.num_keypoints, f"{where}: keypoints", skeleton.name)
    if not files.is_number(result["score"]):
        raise InputError(f"{where}: score is {result['score']!r}, wanted a finite number.")
    if "track_id" in result and not files.is_whole(result["track_id"]):
        raise InputError(f"{where}: track_id is {result['track_id']!r}, wanted a whole number.")
    if "bbox" in result and not files.is_numbers(result["bbox"], 4):
        raise InputError(f"{where}: bbox is {result['bbox']!r}, wanted 4 numbers: left, top, width, height.")


def _poses(rows: list[Result], skeleton: Skeleton, image_size: Size) -> Poses:
    if not rows:
        return Poses.empty(skeleton, image_size)
    tracked = all("track_id" in row for row in rows)
    ids = [int(row["track_id"]) for row in rows] if tracked else None
    poses = from_keypoints.to_poses([row["keypoints"] for row in rows], skeleton, image_size, ids)
    boxes = [
        xywh_to_xyxy(row["bbox"]) if "bbox" in row else bounds
        for row, bounds in zip(rows, poses.boxes_xyxy, strict=True)
    ]
    mean = poses.person_scores  # of the keypoints alone, because every box score is 1 here
    stated = np.array([row["score"] for row in rows], np.float32)
    scores = np.divide(stated, mean, out=stated.copy(), where=mean > 0)
    return replace(poses, boxes_xyxy=np.stack(boxes), box_scores=scores)
