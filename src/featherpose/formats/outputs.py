"""The file formats that poses are saved in, by the name that `featherpose predict --save` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featherpose.errors import InputError, did_you_mean
from featherpose.formats import coco, jsonl, native, openpose, tidy_csv, yolo_pose
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton


class Write(Protocol):
    """Writes poses by image name into a folder; returns what was written, for one line of output.

    `shard`, "I/N" or empty, becomes part of the name of a file for all images; files for one image need none, because
    no two shards have the same image. `names` are those of all images of the run, also of other shards and of images
    that failed; None: those of `poses`.
    """

    def __call__(
        self,
        folder: Path,
        poses: Mapping[str, Poses],
        skeleton: Skeleton,
        model: str = "",
        *,
        shard: str = "",
        names: Sequence[str] | None = None,
    ) -> str: ...


class Read(Protocol):
    """Reads from a folder what `Write` wrote; `image_sizes` lists all images, because most formats lack the sizes."""

    def __call__(
        self, folder: Path, skeleton: Skeleton, image_sizes: Mapping[str, Size], *, shard: str = ""
    ) -> dict[str, Poses]: ...


@dataclass(frozen=True)
class Format:
    """A file format: what it is, what of the poses it does not keep, its writer and its reader."""

    sentence: str
    lost: str
    write: Write
    read: Read
    one_file_per_image: bool = False
    """Then no two images may have names that differ only in the suffix."""


FORMATS: dict[str, Format] = {
    "json": Format(
        "One JSON document, poses.json: keypoints by name, boxes, scores, image sizes and the skeleton.",
        "nothing",
        native.write,
        native.read,
    ),
    "jsonl": Format(
        "JSON Lines, poses.jsonl: the same with one image a line, for large runs.",
        "nothing",
        jsonl.write,
        jsonl.read,
    ),
    "csv": Format(
        "A table, poses.csv, with one row per keypoint: image, person, keypoint, x, y, score.",
        "boxes, box scores, image sizes, images without persons",
        tidy_csv.write,
        tidy_csv.read,
    ),
    "coco": Format(
        "COCO's keypoint results, coco_results.json, for COCO's evaluation.",
        "image sizes, images without persons, names of keypoints; where all are below 0.2, the box score",
        coco.write,
        coco.read,
    ),
    "yolo": Format(
        "YOLO pose labels, yolo/labels and yolo/data.yaml, to train on.",
        "scores, ids, image sizes, keypoints outside the image",
        yolo_pose.write,
        yolo_pose.read,
        one_file_per_image=True,
    ),
    "openpose": Format(
        "OpenPose's JSON, openpose/NAME_keypoints.json, one file per image.",
        "boxes, box scores, image sizes, names of keypoints",
        openpose.write,
        openpose.read,
        one_file_per_image=True,
    ),
}
"""Name -> format."""


def find_format(name: str) -> Format:
    """Name -> format; InputError for an unknown name."""
    if name not in FORMATS:
        raise InputError(f"Unknown format {name!r}.{did_you_mean(name, FORMATS)}")
    return FORMATS[name]
