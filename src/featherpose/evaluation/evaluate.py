"""Evaluation of a model on a labeled data set: poses in given boxes, COCO metrics, and warnings about the data.

Which boxes are used, as in published results (Xiao et al. 2018, HRNet):

- `boxes="gt"`: the annotated box of every person with at least one labeled keypoint, except crowd regions. Each box has
  score 1 and no pose is suppressed. Images without such a person are skipped: COCO would count poses on them as false
  positives, which cannot occur with ground-truth boxes. `jitter` adds noise to the boxes.
- `evaluate_detected`: the boxes that a detector finds in the images, beside the scores with ground-truth boxes.
- `boxes=FILE`: all boxes of a person detector, with the detector's scores. Duplicates are suppressed by OKS-NMS at 0.9
  over the areas of the padded boxes, or by the method that `nms` names (`NMS`).

A person's score is the box score x the mean of the keypoint scores above 0.2.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featherpose.boxes import jitter_boxes, xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.errors import DataError, InputError, did_you_mean
from featherpose.evaluation.coco import CocoScores, area, evaluator, keypoint_ap
from featherpose.evaluation.prediction import Detect, LabeledImage, Predict, predict_images
from featherpose.evaluation.result import Evaluation
from featherpose.formats import person_boxes
from featherpose.formats.coco import to_results
from featherpose.nms import oks_nms, pose_nms, soft_oks_nms
from featherpose.oks import oks
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import Skeleton

OKS_NMS_THRESHOLD = 0.9
"""OKS above which two poses are duplicates of one person."""
NMS_AREA_ASPECT = Size(height=256, width=192)
"""OKS-NMS uses the area of the box extended to this aspect ratio and padded by 1.25 as the person's area."""
MAX_JITTER = 0.25
"""A box whose sides are off by twice this could vanish."""


class Dataset(Protocol):
    """A labeled data set: COCO's JSON as a dict, the folder of its images, and its skeleton."""

    @property
    def truth(self) -> Mapping[str, Any]: ...
    @property
    def images(self) -> Path: ...
    @property
    def skeleton(self) -> Skeleton: ...


@dataclass(frozen=True)
class _ImageBoxes:
    """An image and the boxes of its persons."""

    record: Mapping[str, Any]  # its entry in COCO's JSON
    boxes: NDArray[np.float32]  # (N, 4) xyxy
    scores: NDArray[np.float32]  # (N,)

    @property
    def size(self) -> Size:
        """As annotated."""
        return _size(self.record)


def evaluate(
    dataset: Dataset,
    predict: Predict,
    boxes: str | os.PathLike[str] = "gt",
    progress: Callable[[int, int], None] | None = None,
    *,
    nms: str | None = None,
    jitter: float = 0.0,
) -> Evaluation[CocoScores]:
    """Data set, a function from images and boxes to Poses, and "gt" or a JSON file of boxes -> Evaluation.

    The results are in COCO's keypoint result format. The file contains COCO detections, COCO annotations or
    {image: boxes}. `nms`, a name in `NMS`, selects how duplicates among them are suppressed (None: oks). `jitter` moves
    each side of labeled boxes by a normal draw times this fraction of the box's width or height, the same draws each
    time. `progress` is called with the number of images done and the total. An image that cannot be read, or whose size
    differs from the annotated one, is listed, and its persons count as missed.
    """
    evaluator()  # if it is not installed, fail now and not after inference
    labeled = boxes == "gt"
    _check_options(labeled, nms, jitter)
    suppress = NMS["none" if labeled else nms or "oks"]
    if labeled:
        entries = _with_jitter(_labeled(dataset, _category(dataset.truth)), jitter)
    else:
        entries = _from_file(dataset, Path(boxes))
    usable = [_usable(entry) for entry in entries]
    outside = sum(len(entry.boxes) - len(kept.boxes) for entry, kept in zip(entries, usable, strict=True))
    images = {
        entry.record["id"]: LabeledImage(entry.record["file_name"], entry.boxes, entry.scores, entry.size)
        for entry in usable
    }
    return _evaluate(dataset, images, predict, lambda found: found[suppress(found)], progress, outside=outside)


def evaluate_detected(
    dataset: Dataset,
    predict: Predict,
    detect: Detect,
    suppress: Callable[[Poses], Poses],
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation[CocoScores]:
    """Data set, a function from images and boxes to Poses, one from an image to boxes, and one that removes duplicates
    -> Evaluation, with the scores in ground-truth boxes beside those in detected ones.

    All images are searched, also those without a person. `progress` counts the images of both.
    """
    evaluator()  # if it is not installed, fail now and not after inference
    records = dataset.truth["images"]
    num_labeled = len(_labeled(dataset, _category(dataset.truth)))
    total = num_labeled + len(records)
    images = {record["id"]: LabeledImage(record["file_name"], None, size=_size(record)) for record in records}
    with_gt_boxes = evaluate(dataset, predict, progress=_part_of(progress, 0, total))
    with_detector = _evaluate(dataset, images, predict, suppress, _part_of(progress, num_labeled, total), detect=detect)
    return replace(with_detector, gt_scores=with_gt_boxes.scores)


def _part_of(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    """Progress of the whole -> that of a part which begins when `before` images are done."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _evaluate(
    dataset: Dataset,
    images: Mapping[Any, LabeledImage],
    predict: Predict,
    suppress: Callable[[Poses], Poses],
    progress: Callable[[int, int], None] | None,
    *,
    detect: Detect | None = None,
    outside: int = 0,
) -> Evaluation[CocoScores]:
    """Images by id -> Evaluation of the poses in their boxes; `outside` boxes were left out before."""
    predictions = predict_images(dataset.images, list(images.values()), predict, dataset.skeleton, progress, detect)
    category = _category(dataset.truth)
    results: list[dict[str, Any]] = []
    instances = 0
    for image_id, found in zip(images, predictions.poses, strict=True):
        if found is not None:
            instances += len(found)
            results += to_results(suppress(found), image_id, category)
    scores = keypoint_ap(dataset.truth, results, dataset.skeleton.sigmas)
    broken = predictions.broken
    notes = tuple(_notes(dataset, len(images), len(broken), outside, results))
    return Evaluation(scores, results, predictions.num_images, instances, predictions.seconds, broken, notes)


def _size(record: Mapping[str, Any]) -> Size:
    """Entry of an image in COCO's JSON -> its size as annotated."""
    return Size(height=record["height"], width=record["width"])


def _check_options(labeled: bool, nms: str | None, jitter: float) -> None:
    """InputError for options that are invalid, or that do not apply to these boxes."""
    if nms is not None and nms not in NMS:
        raise InputError(f"nms {nms!r} is unknown.{did_you_mean(nms, NMS)}")
    if not 0 <= jitter < MAX_JITTER:
        raise InputError(f"jitter is {jitter}, wanted 0 (none) to below {MAX_JITTER}, a fraction of the box sides.")
    if labeled and nms is not None:
        raise InputError(f"nms {nms} is for detected boxes: labeled boxes are all kept; leave it out, or give --boxes.")
    if jitter and not labeled:
        raise InputError(f"jitter {jitter} is for labeled boxes: detected boxes already have errors; type --boxes gt.")


def _category(truth: Mapping[str, Any]) -> int:
    """Id of the one category with keypoints."""
    categories = [category for category in truth["categories"] if category.get("keypoints")]
    if len(categories) != 1:
        names = ", ".join(str(category.get("name")) for category in categories) or "none"
        raise DataError(f"Categories with keypoints: {names}; give a file with exactly one.")
    return categories[0]["id"]


def _labeled(dataset: Dataset, category: int) -> list[_ImageBoxes]:
    """Annotated boxes by image, of persons with a labeled keypoint, without crowd regions."""
    boxes: defaultdict[Any, list[list[float]]] = defaultdict(list)
    for person in dataset.truth["annotations"]:
        if person["category_id"] == category and _is_evaluated(person):
            boxes[person["image_id"]].append(person["bbox"])
    records = [record for record in dataset.truth["images"] if record["id"] in boxes]
    found = [xywh_to_xyxy(boxes[record["id"]]) for record in records]
    return [_ImageBoxes(record, at, np.ones(len(at), np.float32)) for record, at in zip(records, found, strict=True)]


def _with_jitter(entries: list[_ImageBoxes], amount: float) -> list[_ImageBoxes]:
    """The same images with jittered boxes; the draws are the same for every model and amount."""
    rng = np.random.default_rng(0)
    return [replace(entry, boxes=jitter_boxes(entry.boxes, amount, rng)) for entry in entries] if amount else entries


def _is_evaluated(person: Mapping[str, Any]) -> bool:
    return not person.get("iscrowd", 0) and any(v > 0 for v in (person.get("keypoints") or ())[2::3])


def _from_file(dataset: Dataset, path: Path) -> list[_ImageBoxes]:
    """Boxes of a JSON file by image; images without a box are left out."""
    loaded = person_boxes.read(path, "Wanted a file of boxes, or type --boxes gt.")
    entries: list[_ImageBoxes] = []
    for record in dataset.truth["images"]:
        name = record["file_name"]
        # COCO detections name an image by its id and leave out empty images; the other formats name all images by file.
        found = loaded.by_name.get(str(record["id"])) if loaded.complete else loaded.of(name)
        if found is None and not loaded.complete:
            raise InputError(f'{path}: no entry for {name}; add "{name}": [] if it contains no person.')
        if found and len(found[0]):
            entries.append(_ImageBoxes(record, *found))
    if not entries:
        raise InputError(f"{path}: no box on any of the {len(dataset.truth['images'])} images of the data set.")
    return entries


def _usable(entry: _ImageBoxes) -> _ImageBoxes:
    """The same image with the boxes that have an area and overlap the image."""
    size = entry.size
    left, top, right, bottom = entry.boxes.T
    kept = (left < right) & (top < bottom) & (right > 0) & (bottom > 0) & (left < size.width) & (top < size.height)
    return replace(entry, boxes=entry.boxes[kept], scores=entry.scores[kept])


def _keep_all(found: Poses) -> NDArray[np.int64]:
    return np.arange(len(found))


def _by_oks(found: Poses) -> NDArray[np.int64]:
    return oks_nms(found.keypoints, found.person_scores, _areas(found), found.skeleton.sigmas, OKS_NMS_THRESHOLD)


def _by_soft_oks(found: Poses) -> NDArray[np.int64]:
    return soft_oks_nms(found.keypoints, found.person_scores, _areas(found), found.skeleton.sigmas, OKS_NMS_THRESHOLD)


def _by_pose(found: Poses) -> NDArray[np.int64]:
    return pose_nms(found.keypoints, found.scores, found.person_scores, found.boxes_xyxy)


def _areas(found: Poses) -> list[float]:
    return [float(np.prod(Crop.from_box(box, NMS_AREA_ASPECT).extent)) for box in found.boxes_xyxy]


NMS: dict[str, Callable[[Poses], NDArray[np.int64]]] = {
    "oks": _by_oks,
    "soft": _by_soft_oks,
    "pose": _by_pose,
    "none": _keep_all,
}
"""How duplicates are suppressed: Poses -> indices of the poses kept. "soft" drops no pose up to 20 poses, and only the
worst beyond; the scores of the poses kept do not change."""


def _notes(
    dataset: Dataset, total: int, broken: int, outside: int, results: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Warnings that qualify the scores, one sentence each."""
    persons = [person for person in dataset.truth["annotations"] if _is_evaluated(person)]
    if broken:
        yield f"{broken} of {total} images could not be used; their persons count as missed."
    if outside:
        yield f"{outside} boxes without an area, or entirely outside their image, were left out."
    if no_area := sum(person.get("area") is None for person in persons):
        yield f"{no_area} of {len(persons)} labeled persons have no area; 0.53 of the box area is used instead."
    if contradiction := diagnose(persons, results, dataset.skeleton.sigmas):
        yield contradiction


def diagnose(
    annotations: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> str | None:
    """COCO annotations of labeled persons and results -> a warning when OKS and pixel errors disagree, else None.

    Each person is compared with the nearest pose in the image. The error is relative to the side of a square with the
    box's area: keypoints within a twentieth of it belong to the right person, whatever the OKS.
    """
    pairs = list(_nearest(annotations, results, sigmas))
    if not pairs:
        return None
    similarity, pixels, share = np.median(pairs, axis=0)
    if similarity < 0.1 and share < 0.05:
        return f"OKS is {similarity:.2f} but the error is {pixels:.1f} px: area (too small) or sigmas look wrong."
    if similarity > 0.9 and share > 0.25:
        return f"OKS is {similarity:.2f} but the error is {pixels:.1f} px: area (too large) or sigmas look wrong."
    return None


def _nearest(
    annotations: Iterable[Mapping[str, Any]], results: Iterable[Mapping[str, Any]], sigmas: Sequence[float]
) -> Iterator[tuple[float, float, float]]:
    """(OKS, median error in px, the same as a fraction of the box's side) of each person and the nearest pose."""
    poses: defaultdict[Any, list[Any]] = defaultdict(list)
    for result in results:
        poses[result["image_id"]].append(result["keypoints"])
    for person in annotations:
        if person["image_id"] not in poses:
            continue
        truth = np.reshape(person["keypoints"], (-1, 3))
        found = np.reshape(poses[person["image_id"]], (-1, len(truth), 3))[..., :2]
        seen = truth[:, 2] > 0
        errors = np.median(np.linalg.norm(found[:, seen] - truth[seen, :2], axis=-1), axis=1)
        best = int(errors.argmin())
        similarity = oks(truth[:, :2], found[best : best + 1], area(person), sigmas, seen)[0]
        side = max(float(np.sqrt(person["bbox"][2] * person["bbox"][3])), 1e-9)
        yield float(similarity), float(errors[best]), float(errors[best]) / side
