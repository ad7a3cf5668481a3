"""Samples of a data set: from shards of crops, or from whole images annotated in a COCO file.

In a whole image, each person gets a square region, large enough for everything that augmentation may show, as if it had
been stored as a crop. Persons that cannot be used for training are left out and counted; a missing image is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from featherpose.boxes import BOX_MARGINS, box_of_keypoints, xyxy_to_xywh
from featherpose.data.cache import ASPECT
from featherpose.data.coco import Coco, Record, is_coco, read_coco
from featherpose.data.sample import Location, Region, Sample
from featherpose.data.shards import scan
from featherpose.errors import DataError
from featherpose.size import Size
from featherpose.skeleton import OTHER_SIGMA, Skeleton, keypoints_without_sigma, unpaired_keypoints

REGION_SCALE = 1.5
"""Side of a person's region, in heights of the box extended to 3:4. A crop shows 1.25; augmentation shifts and rotates
it."""

HEAD_TOP_MARGIN = 0.04
"""From a labeled top of the head up to the person's box, as a fraction of the larger side of the keypoints' bounds;
`boxes.BOX_MARGINS` counts from the eyes and ears."""


def labeled_samples(place: Path) -> tuple[list[Sample], list[str]]:
    """Folder of shards, or COCO file or folder -> all samples, and notes on them for the user (counts, warnings)."""
    if is_coco(place) and not any(place.glob("*.tar")):
        coco = read_coco(place)
        samples, left_out = samples_of_coco(coco)
        if not samples:
            reason = _format_counts(left_out) if left_out else f"none of category {coco.category}"
            raise DataError(f"{place}: no usable sample in {len(coco.truth['annotations'])} annotations; {reason}.")
        return samples, [*_counts(coco, samples, left_out), *_name_warnings(coco.skeleton)]
    index = scan(place)
    notes: list[str] = []
    if index.broken:
        notes.append(f"{place}: {len(index.broken)} broken samples left out, first: {index.broken[0]}")
    return index.samples, notes


def samples_of_coco(coco: Coco) -> tuple[list[Sample], Counter[str]]:
    """Annotations -> samples that can be used for training, in their order, and counts of the others by reason."""
    image_records = {record["id"]: record for record in coco.truth["images"]}
    posed = [record for record in coco.truth["annotations"] if record.get("category_id") == coco.category]
    reasons = [_unusable(person, image_records[person["image_id"]]) for person in posed]
    # Numbered among all persons, so that keys do not depend on who is left out.
    chosen = [(number, person) for number, person in enumerate(posed) if not reasons[number]]
    names = [str(image_records[person["image_id"]]["file_name"]) for _, person in chosen]
    nbytes = _file_sizes(coco.images, dict.fromkeys(names))  # every image once, in this order
    samples = [_sample(coco, person, image_records[person["image_id"]], number, nbytes) for number, person in chosen]
    return samples, Counter(reason for reason in reasons if reason)


def with_keypoint_boxes(samples: Sequence[Sample], sources: Collection[str]) -> list[Sample]:
    """Samples -> the same, those of `sources` with a box around their keypoints, in which they are as large as COCO's.

    A sample keeps its annotated box where fewer than half of its keypoints are labeled.
    """
    return [_with_keypoint_box(sample) if sample.source in sources else sample for sample in samples]


def _with_keypoint_box(sample: Sample) -> Sample:
    labeled = sample.visibility > 0
    box = box_of_keypoints(sample.keypoints, labeled)
    if box is None:
        return sample
    names = sample.skeleton.keypoint_names
    if "head_top" in names and labeled[names.index("head_top")]:
        bounds = np.ptp(sample.keypoints[labeled], axis=0)
        box[1] -= (BOX_MARGINS[1] + HEAD_TOP_MARGIN) * bounds.max()
    # Annotated boxes end at the image's edges, too.
    box = np.clip(box, 0, np.array(2 * sample.size.xy, np.float32))
    if not (box[2:] > box[:2]).all():
        return sample
    return replace(sample, box_xywh=xyxy_to_xywh(box))


def _unusable(person: Record, image_record: Record) -> str:
    """Reason why an annotation cannot be used for training; empty where it can."""
    left, top, width, height = person["bbox"]
    if person.get("iscrowd"):
        return "crowd regions"
    if not any((person.get("keypoints") or ())[2::3]):
        return "instances without a labeled keypoint"
    if not (width > 0 and height > 0):
        return "instances whose box has no area"
    starts_inside = left < image_record["width"] and top < image_record["height"]
    ends_inside = left + width > 0 and top + height > 0
    return "" if starts_inside and ends_inside else "instances whose box is outside the image"


def _file_sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Names of images -> size of each file in bytes; DataError where one is missing."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} annotated images are missing, first {missing[0]}; put them there, or remove"
            " them from the annotation file."
        )
    return {name: (folder / name).stat().st_size for name in names}


def _sample(coco: Coco, person: Record, image_record: Record, number: int, nbytes: dict[str, int]) -> Sample:
    name = str(image_record["file_name"])
    keypoints = np.array(person["keypoints"], np.float32).reshape(-1, 3)
    box = np.array(person["bbox"], np.float32)
    region, size = _region(person["bbox"], Size(height=image_record["height"], width=image_record["width"]))
    visibility = keypoints[:, 2].astype(np.uint8)
    # From here on, the region is the image of the sample.
    origin = np.array([region.left, region.top], np.float32)
    return Sample(
        key=f"{name}:{person.get('id', number)}",
        image=name,
        source=coco.name,
        keypoints=np.where(visibility[:, None] > 0, keypoints[:, :2] - origin, 0).astype(np.float32),
        visibility=visibility,
        skeleton=coco.skeleton,
        box_xywh=np.concatenate([box[:2] - origin, box[2:]]),
        area=person.get("area") or None,
        size=size,
        scale=1.0,
        location=Location(coco.images / name, 0, nbytes[name], region),
    )


def _region(box_xywh: list[float], image_size: Size) -> tuple[Region, Size]:
    """Box and size of an image -> the square around the box, clipped to the image, and its size."""
    left, top, width, height = box_xywh
    center_x = left + width / 2
    center_y = top + height / 2
    half = REGION_SCALE / 2 * max(height, width / ASPECT)
    low_x = max(0, math.floor(center_x - half))
    low_y = max(0, math.floor(center_y - half))
    # One more: the pixel at the end belongs to the region.
    high_x = min(image_size.width, math.ceil(center_x + half) + 1)
    high_y = min(image_size.height, math.ceil(center_y + half) + 1)
    return Region(low_x, low_y, image_size), Size(height=high_y - low_y, width=high_x - low_x)


def _counts(coco: Coco, samples: list[Sample], left_out: Counter[str]) -> Iterator[str]:
    """Notes on the number of instances and images, the keypoints, and the instances left out."""
    skeleton = coco.skeleton
    num_images = len({sample.image for sample in samples})
    pairs = len(skeleton.flip_pairs)
    yield (
        f"{coco.name}: {len(samples)} instances in {num_images} images,"
        f" {skeleton.num_keypoints} keypoints ({', '.join(skeleton.keypoint_names)}),"
        f" {pairs} left-right {'pair' if pairs == 1 else 'pairs'}."
    )
    if left_out:
        yield f"Left out: {_format_counts(left_out)}."
    if coco.num_computed_boxes:
        yield f"{coco.num_computed_boxes} instances have no box; one is computed from their labeled keypoints."


def _format_counts(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def _name_warnings(skeleton: Skeleton) -> Iterator[str]:
    """Notes on what cannot be derived from the names of the keypoints."""
    if unpaired := unpaired_keypoints(skeleton):
        yield (
            f"Warning: no keypoint of the other side for {', '.join(unpaired)}: a flipped person has it on the wrong"
            " side. Give both sides matching names (left_ankle, right_ankle), or set augmentation.flip_prob=0."
        )
    if unknown := keypoints_without_sigma(skeleton):
        yield (
            f"No published OKS sigma for {', '.join(unknown)}: {OTHER_SIGMA} is used, the mean of COCO's; AP is only"
            " comparable between models evaluated on this data set."
        )
