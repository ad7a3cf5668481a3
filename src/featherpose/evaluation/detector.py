"""Evaluation of a person detector on a labeled data set: COCO's box metrics, and what they do not say.

AP counts all persons alike, from a crowd's heads to a portrait. `recall` says how many of the people that a photo is
about are found, `false_boxes` how often nobody is taken for somebody.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import images, meaning
from featherpose.boxes import xywh_to_xyxy, xyxy_to_xywh
from featherpose.data.dataset import Dataset
from featherpose.errors import DataError, InputError
from featherpose.evaluation.coco import BoxScores, bbox_matches, evaluator
from featherpose.evaluation.detection import (
    TALL,
    ImageDetections,
    MatchedImage,
    match_images,
    recall_of_matched,
    score_of_matched,
)
from featherpose.evaluation.prediction import Detect
from featherpose.evaluation.result import ByImage, Evaluation
from featherpose.records import NO_BOX, Counts, Labels, PersonRecord, Tally, count_notes
from featherpose.size import Size


@dataclass(frozen=True)
class DetectorScores:
    """Fractions 0 to 1, and nan where no such person or image is in the data set."""

    ap: float  # mean over the IoU thresholds 0.50, 0.55, ... 0.95
    ap50: float
    ap_small: float  # persons smaller than 32² px
    ap_medium: float
    ap_large: float  # persons of more than 96² px
    ar: float  # with at most 100 boxes per image
    recall: float
    """Of people taller than a fifth of the image, at IoU 0.5 and the score with one false box per image on average."""
    false_boxes: float
    """Boxes per image without anyone, at the score threshold `conf`; not a fraction."""
    conf_at_90: float
    """Lowest score threshold at which 90 % of the boxes are right (`detection.score_at_precision`)."""

    def to_dict(self) -> dict[str, float | None]:
        """The scores by field name; None (JSON null) instead of nan."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def evaluate_detector(
    dataset: Dataset,
    detect: Detect,
    conf: float,
    progress: Callable[[int, int], None] | None = None,
    *,
    strict: bool = False,
) -> Evaluation[DetectorScores]:
    """Data set and a function from an image to all boxes, however low their score -> Evaluation.

    All annotated persons count, with keypoints or not; crowd regions are ignored. The results are in COCO's box format.
    An image that cannot be read, or whose size differs from the annotated one, is listed, and its persons count as
    missed. DataError where none can be used. `strict` refuses labels that look wrong (`meaning.CHECKS`).
    """
    evaluator()  # if it is not installed, fail now and not after inference
    labels = dataset.labels
    people, counts = _with_boxes(labels)
    warnings = meaning.warnings_about(labels.images, [p for p in people if not p.crowd], strict=strict)
    people_by_image: defaultdict[int, list[PersonRecord]] = defaultdict(list)
    for person in people:
        people_by_image[person.image].append(person)
    records = labels.images
    start = time.perf_counter()
    broken: list[str] = []
    notes: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    found: dict[int, ImageDetections] = {}
    for index, record in enumerate(records):
        if progress:
            progress(index, len(records))
        try:
            said: list[str] = []
            image = images.read(dataset.images / record.name, notes=said)
            if said:
                notes[record.name] = "; ".join(said)
            size = Size(height=image.shape[0], width=image.shape[1])
            if record.size is not None and record.size != size:
                raise InputError(meaning.size_difference(record.name, size, record.size))
        except InputError as error:
            broken.append(str(error))
            continue
        boxes, scores = detect(image)
        found[index] = _image_detections(boxes, scores, people_by_image[index], image.shape[0])
        results += [
            {"image_id": record.id, "category_id": labels.category, "bbox": box, "score": score}
            for box, score in zip(xyxy_to_xywh(boxes).tolist(), scores.tolist(), strict=True)
        ]
    if progress:
        progress(len(records), len(records))
    if not found:
        raise DataError(f"None of the {len(records)} images could be used; first error: {(broken or ['no image'])[0]}")
    by_image = _by_image(labels, results, found, conf)
    return Evaluation(
        by_image.scores(np.arange(len(records))),
        results,
        num_images=len(found),
        num_instances=len(results),
        seconds=time.perf_counter() - start,
        broken=tuple(broken),
        warnings=(*warnings, *count_notes(notes)),
        counts=(counts,),
        by_image=by_image,
    )


def _with_boxes(labels: Labels) -> tuple[list[PersonRecord], Counts]:
    """The persons with a box, and the counts with the others."""
    tally = Tally(labels.counts.what)
    for person in labels.persons:
        if person.box_xywh is None:
            tally.leave_out(NO_BOX, person.place)
    return [person for person in labels.persons if person.box_xywh is not None], labels.counts.less(tally)


@dataclass(frozen=True, eq=False)
class _Found:
    """Detections in one image, matched to its people."""

    tall: MatchedImage
    everyone: MatchedImage
    false_boxes: int | None
    """Boxes at the detector's threshold; None where the image shows somebody."""


def _by_image(
    labels: Labels, results: list[dict[str, Any]], found: dict[int, ImageDetections], conf: float
) -> ByImage[DetectorScores]:
    """Results, and detections by index of the image -> the scores of any draw of images."""
    matches = bbox_matches(labels, results)
    images = list(found.values())
    false_boxes = [None if len(image.labels_xyxy) else int((image.scores >= conf).sum()) for image in images]
    facts = map(_Found, match_images(images, TALL), match_images(images), false_boxes)
    by_image = dict(zip(found, facts, strict=True))

    def scores(rows: NDArray[np.int64]) -> DetectorScores:
        return _scores(matches.scores(rows), [by_image[row] for row in rows.tolist() if row in by_image])

    return ByImage(matches.num_images, scores)


def _scores(coco: BoxScores, found: Sequence[_Found]) -> DetectorScores:
    false_boxes = [image.false_boxes for image in found if image.false_boxes is not None]
    return DetectorScores(
        ap=coco.ap,
        ap50=coco.ap50,
        ap_small=coco.ap_small,
        ap_medium=coco.ap_medium,
        ap_large=coco.ap_large,
        ar=coco.ar100,
        recall=recall_of_matched([image.tall for image in found], 1.0),
        false_boxes=float(np.mean(false_boxes)) if false_boxes else float("nan"),
        conf_at_90=score_of_matched([image.everyone for image in found]),
    )


def _image_detections(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], people: list[PersonRecord], height: int
) -> ImageDetections:
    labels_xyxy = xywh_to_xyxy(np.array([person.box_xywh for person in people], np.float32).reshape(-1, 4))
    ignored = np.array([person.crowd for person in people], bool)
    return ImageDetections(boxes, scores, labels_xyxy, ignored, height)
