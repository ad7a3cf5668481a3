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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import meaning
from featherpose.boxes import jitter_boxes, xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.data.dataset import Dataset
from featherpose.errors import InputError, did_you_mean
from featherpose.evaluation.coco import MAX_PERSONS, CocoScores, evaluator, keypoint_matches
from featherpose.evaluation.diagnosis import diagnose_coco
from featherpose.evaluation.explain import explain
from featherpose.evaluation.prediction import Detect, LabeledImage, Predict, predict_images
from featherpose.evaluation.result import ByImage, Evaluation
from featherpose.formats import person_boxes
from featherpose.formats.coco import to_results
from featherpose.nms import oks_nms, pose_nms, soft_oks_nms
from featherpose.poses import Poses
from featherpose.records import Counts, Id, ImageRecord, Labels, PersonRecord, Tally, require_used
from featherpose.size import Size

OKS_NMS_THRESHOLD = 0.9
"""OKS above which two poses are duplicates of one person."""
NMS_AREA_ASPECT = Size(height=256, width=192)
"""OKS-NMS uses the area of the box extended to this aspect ratio and padded by 1.25 as the person's area."""
MAX_JITTER = 0.25
"""A box whose sides are off by twice this could vanish."""


@dataclass(frozen=True)
class _ImageBoxes:
    """An image and the boxes of its persons."""

    image: ImageRecord
    boxes: NDArray[np.float32]  # (N, 4) xyxy
    scores: NDArray[np.float32]  # (N,)


def evaluate(
    dataset: Dataset,
    predict: Predict,
    boxes: str | os.PathLike[str] = "gt",
    progress: Callable[[int, int], None] | None = None,
    *,
    nms: str | None = None,
    jitter: float = 0.0,
    category: Id | None = None,
    strict: bool = False,
) -> Evaluation[CocoScores]:
    """Data set, a function from images and boxes to Poses, and "gt" or a JSON file of boxes -> Evaluation.

    The results are in COCO's keypoint result format. The file contains COCO detections, COCO annotations or
    {image: boxes}. `nms`, a name in `NMS`, selects how duplicates among them are suppressed (None: oks). `jitter` moves
    each side of labeled boxes by a normal draw times this fraction of the box's width or height, the same draws each
    time. `category`: id or name of that of the persons in the file. `strict` refuses labels and boxes that look wrong
    (`meaning.CHECKS`). `progress` is called with the number of images done and the total. An image that cannot be read,
    or whose size differs from the annotated one, is listed, and its persons count as missed.
    """
    evaluator()  # if it is not installed, fail now and not after inference
    labeled = boxes == "gt"
    _check_options(labeled, nms, jitter)
    labels = dataset.labels
    persons, counts = labels.usable()
    if labels.hidden:
        _refuse_labeled_boxes(labels, labeled)
    else:
        require_used(counts, f"The category is {labels.category_name}.")
    warnings = meaning.warnings_about(labels.images, labels.labeled, strict=strict)
    suppress = NMS["none" if labeled else nms or "oks"]
    all_counts = [counts]
    if labeled:
        entries = _with_jitter(_labeled(labels, persons), jitter)
    else:
        entries, box_counts, box_warnings = _from_file(labels, Path(boxes), category, strict)
        all_counts.append(box_counts)
        warnings += box_warnings
    images = [
        (entry.image.id, LabeledImage(entry.image.name, entry.boxes, entry.scores, entry.image.size))
        for entry in entries
    ]
    evaluation = _evaluate(dataset, images, predict, lambda found: found[suppress(found)], progress)
    return replace(evaluation, counts=tuple(all_counts), warnings=(*warnings, *evaluation.warnings))


def evaluate_detected(
    dataset: Dataset,
    predict: Predict,
    detect: Detect,
    suppress: Callable[[Poses], Poses],
    progress: Callable[[int, int], None] | None = None,
    *,
    strict: bool = False,
) -> Evaluation[CocoScores]:
    """Data set, a function from images and boxes to Poses, one from an image to boxes, and one that removes duplicates
    -> Evaluation, with the scores in ground-truth boxes beside those in detected ones.

    All images are searched, also those without a person. `progress` counts the images of both.
    """
    evaluator()  # if it is not installed, fail now and not after inference
    images = _without_boxes(dataset.labels)
    if dataset.labels.hidden:
        return _evaluate(dataset, images, predict, suppress, progress, detect=detect)
    num_labeled = len(_labeled(dataset.labels, dataset.labels.usable()[0]))
    total = num_labeled + len(images)
    with_gt_boxes = evaluate(dataset, predict, progress=_part_of(progress, 0, total), strict=strict)
    with_detector = _evaluate(dataset, images, predict, suppress, _part_of(progress, num_labeled, total), detect=detect)
    return replace(with_detector, gt_scores=with_gt_boxes.scores, counts=with_gt_boxes.counts)


def evaluate_one_stage(
    dataset: Dataset,
    predict: Predict,
    progress: Callable[[int, int], None] | None = None,
    *,
    strict: bool = False,
) -> Evaluation[CocoScores]:
    """Data set, and a function from images to the Poses of all people in them (boxes are not given) -> Evaluation.

    All images are searched, also those without a person. `strict` is that of `evaluate`.
    """
    evaluator()  # if it is not installed, fail now and not after inference
    labels = dataset.labels
    _, counts = labels.usable()
    if not labels.hidden:
        require_used(counts, f"The category is {labels.category_name}.")
    warnings = meaning.warnings_about(labels.images, labels.labeled, strict=strict)
    evaluation = _evaluate(dataset, _without_boxes(labels), predict, lambda found: found, progress)
    return replace(evaluation, counts=(counts,), warnings=(*warnings, *evaluation.warnings))


def _without_boxes(labels: Labels) -> list[tuple[Id, LabeledImage]]:
    """All images with their ids."""
    return [(record.id, LabeledImage(record.name, None, size=record.size)) for record in labels.images]


def evaluate_results(dataset: Dataset, results: Sequence[dict[str, Any]]) -> Evaluation[CocoScores]:
    """Data set and COCO keypoint results, as `evaluate` writes them -> Evaluation. No image is read."""
    labels = dataset.labels
    persons, counts = labels.usable()
    require_used(counts, f"The category is {labels.category_name}.")
    evaluation = _evaluation(labels, list(results), num_images=len({person.image for person in persons}), seconds=0.0)
    return replace(evaluation, counts=(counts,), warnings=tuple(explain(labels, persons, results)))


def _part_of(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    """Progress of the whole -> that of a part which begins when `before` images are done."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _evaluate(
    dataset: Dataset,
    images: Sequence[tuple[Id, LabeledImage]],
    predict: Predict,
    suppress: Callable[[Poses], Poses],
    progress: Callable[[int, int], None] | None,
    *,
    detect: Detect | None = None,
) -> Evaluation[CocoScores]:
    """Images with their ids -> Evaluation of the poses in their boxes."""
    labels = dataset.labels
    to_search = [image for _, image in images]
    predictions = predict_images(dataset.images, to_search, predict, labels.skeleton, progress, detect)
    results: list[dict[str, Any]] = []
    instances = 0
    for (image_id, _), found in zip(images, predictions.poses, strict=True):
        if found is not None:
            instances += len(found)
            results += to_results(suppress(found), image_id, labels.category)
    broken = predictions.broken
    return replace(
        _evaluation(labels, results, predictions.num_images, predictions.seconds),
        num_instances=instances,
        broken=broken,
        warnings=(*predictions.notes, *_notes(labels, len(images), len(broken), results)),
    )


def _evaluation(
    labels: Labels, results: list[dict[str, Any]], num_images: int, seconds: float
) -> Evaluation[CocoScores]:
    """Labels and COCO keypoint results -> Evaluation without warnings."""
    matches = keypoint_matches(labels, results)
    return Evaluation(
        scores=matches.scores(),
        results=results,
        num_images=num_images,
        num_instances=len(results),
        seconds=seconds,
        by_image=ByImage(matches.num_images, matches.scores),
        diagnose=lambda: diagnose_coco(labels, results),
    )


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


def _refuse_labeled_boxes(labels: Labels, labeled: bool) -> None:
    """InputError where the boxes of a test set are asked for, which are withheld like its keypoints."""
    if labeled:
        raise InputError(
            f"{labels.name}: the annotations of this test set are withheld, its boxes too; type --boxes detector, or"
            " --boxes FILE."
        )


def _labeled(labels: Labels, persons: Sequence[PersonRecord]) -> list[_ImageBoxes]:
    """The boxes of the persons to be evaluated, by image, in the order of the images."""
    boxes: defaultdict[int, list[Any]] = defaultdict(list)
    for person in persons:
        boxes[person.image].append(person.box_xywh)
    found = [(labels.images[index], xywh_to_xyxy(boxes[index])) for index in sorted(boxes)]
    return [_ImageBoxes(image, at, np.ones(len(at), np.float32)) for image, at in found]


def _with_jitter(entries: list[_ImageBoxes], amount: float) -> list[_ImageBoxes]:
    """The same images with jittered boxes; the draws are the same for every model and amount."""
    rng = np.random.default_rng(0)
    return [replace(entry, boxes=jitter_boxes(entry.boxes, amount, rng)) for entry in entries] if amount else entries


def _from_file(
    labels: Labels, path: Path, category: Id | None, strict: bool
) -> tuple[list[_ImageBoxes], Counts, list[str]]:
    """Boxes of a JSON file by image, without images that have none; their counts, and what looks wrong about them."""
    known = person_boxes.read(path, "Wanted a file of boxes, or type --boxes gt.", category, expected=labels.category)
    # Detections name an image by its id, as the labels do, or by its file; the other formats name it by its file.
    by_id = known.complete and any(known.find_id(image.id) is not None for image in labels.images)
    matches = [(image, known.find_id(image.id) if by_id else known.find(image.name)) for image in labels.images]
    entries: list[_ImageBoxes] = []
    tally = Tally("")
    for image, index in matches:
        if index is None and not known.complete:
            raise InputError(f'{path}: no entry for {image.name}; add "{image.name}": [] if it contains no person.')
        boxes, scores = known.inside(index, image.size, tally)
        if len(boxes):
            entries.append(_ImageBoxes(image, boxes, scores))
    names = [f"{image.name} (id {image.id})" for image in labels.images]
    used = {index for _, index in matches if index is not None}
    counts = known.matched(used, "the images of the data set", names).less(tally)
    if not entries:
        raise InputError(f"{path}: no box on any of the {len(names)} images of the data set. {counts.summary()}")
    sizes = {index: image.size for image, index in matches if index is not None}
    return entries, counts, known.warnings(sizes, strict=strict)


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


def _notes(labels: Labels, total: int, broken: int, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Warnings that qualify the scores, one sentence each."""
    persons, _ = labels.usable()
    if broken:
        yield f"{broken} of {total} images could not be used; their persons count as missed."
    crowded = Counter(person.image for person in persons)
    full = [labels.images[index].name for index, number in crowded.items() if number > MAX_PERSONS]
    if full:
        yield (
            f"{len(full)} images have more than {MAX_PERSONS} labeled persons (first {full[0]}): the metric counts only"
            f" the {MAX_PERSONS} best poses of an image."
        )
    yield from explain(labels, persons, results)
