"""Samples of a data set: from shards of crops, or from the whole images of any data set in `datasets.DATASETS`.

In a whole image, each person gets a square region, large enough for everything that augmentation may show, as if it had
been stored as a crop. Persons that cannot be used for training, and those in
images that are missing, are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from featherpose import files, images, meaning
from featherpose.boxes import BOX_MARGINS, box_of_keypoints, xyxy_to_xywh
from featherpose.data.cache import ASPECT
from featherpose.data.dataset import Dataset
from featherpose.data.datasets import recognize
from featherpose.data.sample import Location, Region, Sample
from featherpose.data.shards import has_shards, scan
from featherpose.errors import DataError, InputError
from featherpose.records import Counts, ImageRecord, PersonRecord, Tally, require_used
from featherpose.size import Size
from featherpose.skeleton import OTHER_SIGMA, Skeleton, keypoints_without_sigma, unpaired_keypoints

REGION_SCALE = 1.5
"""Side of a person's region, in heights of the box extended to 3:4. A crop shows 1.25; augmentation shifts and rotates
it."""

MISSING = "with an image that is missing"
UNREADABLE = "with an image that cannot be read"
OTHER_SIZE = "with an image of another size than annotated"

HEAD_TOP_MARGIN = 0.04
"""From a labeled top of the head up to the person's box, as a fraction of the larger side of the keypoints' bounds;
`boxes.BOX_MARGINS` counts from the eyes and ears."""


def labeled_samples(
    place: Path, category: str = "", *, strict: bool = False, tally: Tally | None = None
) -> tuple[list[Sample], list[str]]:
    """Folder of shards, or a data set (`datasets.find_dataset`) -> all samples, and notes on them for the user (counts,
    warnings).

    `category`: name or id of that of the persons; "": the one with keypoints. `tally` counts the records. DataError
    where no sample is left; `strict`: also where the labels look wrong (`meaning.CHECKS`).
    """
    tally = tally or Tally("records")
    source = None if has_shards(place) else recognize(place)
    if source is not None:
        return samples_and_notes(source.read(category or None), strict=strict, tally=tally)
    index = scan(place)
    tally.total += len(index.samples) + len(index.broken)
    for sentence in index.broken:
        tally.leave_out("with a broken record", sentence)
    notes: list[str] = []
    if index.broken:
        notes.append(f"{place}: {len(index.broken)} broken samples left out, first: {index.broken[0]}")
    return index.samples, [*notes, *(f"Warning: {sentence}" for sentence in _warnings(place, index.samples, strict))]


def _warnings(place: Path, samples: Sequence[Sample], strict: bool) -> list[str]:
    """What looks wrong about samples of shards, one sentence each; `strict`: DataError in place of them."""
    records = [ImageRecord(sample.key, sample.key, sample.size, sample.key) for sample in samples]
    persons = [
        PersonRecord(
            image=index,
            id=None,
            category=None,
            crowd=False,
            area=sample.area,
            box_xywh=sample.box_xywh,
            keypoints=np.column_stack([sample.keypoints, sample.visibility]).astype(np.float32),
            score=None,
            place=sample.key,
        )
        for index, sample in enumerate(samples)
    ]
    try:
        return meaning.warnings_about(records, persons, strict=strict)
    except InputError as error:
        raise DataError(f"{place}: {error}") from None


def samples_and_notes(
    dataset: Dataset, *, strict: bool = False, tally: Tally | None = None
) -> tuple[list[Sample], list[str]]:
    """Data set -> samples and notes, as `labeled_samples`."""
    if dataset.labels.hidden:
        raise DataError(f"{dataset.labels.name}: the annotations of this test set are withheld; take another split.")
    warnings = dataset.warnings(strict=strict)
    samples, counts = samples_of(dataset)
    if tally is not None:
        tally.add_counts(counts)
    require_used(counts, f"The category is {dataset.labels.category_name}.")
    notes = [*_notes(dataset, samples, counts), *(f"Warning: {sentence}" for sentence in warnings)]
    return samples, [*notes, *_name_warnings(dataset.skeleton)]


def samples_of(dataset: Dataset) -> tuple[list[Sample], Counts]:
    """Data set -> samples that can be used for training, in their order, and counts of the others by reason."""
    labeled, counts = dataset.labels.usable()
    records = {index: dataset.labels.images[index] for index in dict.fromkeys(person.image for person in labeled)}
    nbytes = _file_sizes(dataset.images, [record.name for record in records.values()])
    tally = Tally(counts.what)
    problems = {image.name: _problem(dataset.images, image) for image in records.values() if image.name in nbytes}
    samples: list[Sample] = []
    for person in labeled:
        image = records[person.image]
        if image.name not in nbytes:
            tally.leave_out(MISSING, f"{person.place}, {dataset.images / image.name}")
        elif problem := problems[image.name]:
            reason, message = problem
            tally.leave_out(reason, f"{person.place}, {message}")
        else:
            assert image.size is not None  # _problem
            samples.append(_sample(dataset, person, image.size, nbytes[image.name]))
    return samples, counts.less(tally)


def _problem(folder: Path, image: ImageRecord) -> tuple[str, str] | None:
    """An image that exists -> the reason to leave it out, and the message; None where it can be used.

    Only the start of the file is read: what is damaged further on shows when it is decoded.
    """
    try:
        size = images.read_size(folder / image.name)
    except InputError as error:
        return UNREADABLE, str(error).rstrip(".")
    if image.size is None or image.size == size:
        return None
    return OTHER_SIZE, meaning.size_difference(image.name, size, image.size).rstrip(".")


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


def _file_sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Names of images -> size of each file in bytes, without those that are missing."""
    paths = {name: folder / name for name in names}
    return {name: path.stat().st_size for name, path in paths.items() if files.is_file(path)}


def _sample(dataset: Dataset, person: PersonRecord, image_size: Size, nbytes: int) -> Sample:
    name = dataset.labels.images[person.image].name
    assert person.keypoints is not None  # Labels.usable
    assert person.box_xywh is not None
    region, size = _region(person.box_xywh.tolist(), image_size)
    visibility = person.keypoints[:, 2].astype(np.uint8)
    # From here on, the region is the image of the sample.
    origin = np.array([region.left, region.top], np.float32)
    return Sample(
        key=f"{name}:{person.place if person.id is None else person.id}",
        image=name,
        source=dataset.labels.name,
        keypoints=np.where(visibility[:, None] > 0, person.keypoints[:, :2] - origin, 0).astype(np.float32),
        visibility=visibility,
        skeleton=dataset.skeleton,
        box_xywh=np.concatenate([person.box_xywh[:2] - origin, person.box_xywh[2:]]),
        area=person.area,
        size=size,
        scale=1.0,
        location=Location(dataset.images / name, 0, nbytes, region),
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


def _notes(dataset: Dataset, samples: list[Sample], counts: Counts) -> Iterator[str]:
    """Notes on the number of instances and images, the keypoints, the instances left out and what was assumed."""
    skeleton = dataset.skeleton
    num_images = len({sample.image for sample in samples})
    pairs = len(skeleton.flip_pairs)
    yield (
        f"{dataset.labels.name}: {len(samples)} instances in {num_images} images,"
        f" {skeleton.num_keypoints} keypoints ({', '.join(skeleton.keypoint_names)}),"
        f" {pairs} left-right {'pair' if pairs == 1 else 'pairs'}."
    )
    yield from counts.sentences()


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
