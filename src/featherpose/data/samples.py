"""Labelled people wherever they lie: in shards of crops, or on whole photos that a COCO file tells of.

Of a photo each person takes a square part, wide enough for all that augmentation may show, as if it had been stored as
a crop. Who cannot be trained on is left out and counted; a photo that is not there is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from featherpose.data.cache import ASPECT
from featherpose.data.coco import Coco, Record, is_coco, read_coco
from featherpose.data.sample import Location, Region, Sample
from featherpose.data.shards import scan
from featherpose.errors import DataError
from featherpose.size import Size
from featherpose.skeleton import OTHER_SIGMA, Skeleton, keypoints_without_sigma, unpaired_keypoints

REGION_SCALE = 1.5
"""Side of a person's part of the photo, in heights of the box brought to 3:4. A crop shows 1.25; augmentation moves
and turns it."""


def labeled_samples(place: Path) -> tuple[list[Sample], list[str]]:
    """Folder of shards, or COCO file or folder -> all people, and a sentence for all that has to be known of them."""
    if is_coco(place) and not any(place.glob("*.tar")):
        coco = read_coco(place)
        samples, left_out = samples_of_coco(coco)
        if not samples:
            others = f"; {_listed(left_out)}" if left_out else f"; none of category {coco.category}"
            raise DataError(f"{place}: nobody to train on among {len(coco.truth['annotations'])} annotations{others}.")
        return samples, [*_counts(coco, samples, left_out), *_doubts(coco.skeleton)]
    index = scan(place)
    broken = [f"{place}: {len(index.broken)} broken samples left out, first: {first}" for first in index.broken[:1]]
    return index.samples, broken


def samples_of_coco(coco: Coco) -> tuple[list[Sample], Counter[str]]:
    """Annotations -> everyone who can be trained on, in their order, and how many cannot, by reason."""
    image_records = {record["id"]: record for record in coco.truth["images"]}
    posed = [record for record in coco.truth["annotations"] if record.get("category_id") == coco.category]
    reasons = [_unusable(person, image_records[person["image_id"]]) for person in posed]
    chosen = [(number, person) for number, person in enumerate(posed) if not reasons[number]]
    nbytes = _file_sizes(
        coco.images, {str(image_records[person["image_id"]]["file_name"]): None for _, person in chosen}
    )
    samples = [_sample(coco, person, image_records[person["image_id"]], number, nbytes) for number, person in chosen]
    return samples, Counter(reason for reason in reasons if reason)


def _unusable(person: Record, photo: Record) -> str:
    """Why nobody can be trained on this annotation; empty where one can."""
    left, top, width, height = person["bbox"]
    if person.get("iscrowd"):
        return "crowd regions"
    if not any((person.get("keypoints") or ())[2::3]):
        return "people without a labelled joint"
    if not (width > 0 and height > 0):
        return "people whose box has no area"
    inside = left < photo["width"] and top < photo["height"] and left + width > 0 and top + height > 0
    return "" if inside else "people whose box lies outside the photo"


def _file_sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Names of photos -> how many bytes each has; DataError where one is not there."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} photos with people are missing, first {missing[0]}; put them there, or take"
            " them out of the file."
        )
    return {name: (folder / name).stat().st_size for name in names}


def _sample(coco: Coco, person: Record, image_record: Record, number: int, nbytes: dict[str, int]) -> Sample:
    name = str(image_record["file_name"])
    keypoints = np.array(person["keypoints"], np.float32).reshape(-1, 3)
    box = np.array(person["bbox"], np.float32)
    region, size = _region(person["bbox"], Size(height=image_record["height"], width=image_record["width"]))
    visibility = keypoints[:, 2].astype(np.uint8)
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
    """Box and size of a photo -> the square round the box, cut at the photo's edges, and its size."""
    left, top, width, height = box_xywh
    half = REGION_SCALE / 2 * max(height, width / ASPECT)
    low_x, low_y = (max(0, math.floor(middle - half)) for middle in (left + width / 2, top + height / 2))
    high_x = min(image_size.width, math.ceil(left + width / 2 + half) + 1)
    high_y = min(image_size.height, math.ceil(top + height / 2 + half) + 1)
    return Region(low_x, low_y, image_size), Size(height=high_y - low_y, width=high_x - low_x)


def _counts(coco: Coco, samples: list[Sample], left_out: Counter[str]) -> Iterator[str]:
    """How many people there are, with which joints, and how many there are not."""
    skeleton = coco.skeleton
    pairs = len(skeleton.flip_pairs)
    yield (
        f"{coco.name}: {len(samples)} people on {len({sample.image for sample in samples})} photos,"
        f" {skeleton.num_keypoints} joints ({', '.join(skeleton.keypoint_names)}),"
        f" {pairs} {'pair' if pairs == 1 else 'pairs'} of left and right."
    )
    if left_out:
        yield f"Left out: {_listed(left_out)}."
    if coco.boxed:
        yield f"{coco.boxed} people have no box; theirs is made of their labelled joints."


def _listed(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def _doubts(skeleton: Skeleton) -> Iterator[str]:
    """What the names of the joints leave open."""
    if alone := unpaired_keypoints(skeleton):
        yield (
            f"Warning: no joint of the other side for {', '.join(alone)}: a mirrored person has it on the wrong side."
            " Name both sides alike (left_ankle, right_ankle), or set augmentation.flip_prob=0."
        )
    if unknown := keypoints_without_sigma(skeleton):
        yield (
            f"No published OKS sigma for {', '.join(unknown)}: {OTHER_SIGMA} is taken, the mean of COCO's; AP compares"
            " models on this data, and nothing else."
        )
