"""CrowdPose's scores (Li et al. 2019): AP and AR by OKS, and AP of the images of three levels of crowding.

Equal to the evaluation in xtcocotools, which rounds the AP of the levels to four digits. Images are easy below a crowd
index of 0.2, medium below 0.8, hard from there on; an image without an index is in none of them. A person's area is
0.53 of the box (`data.crowdpose`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, nan
from typing import Any

from featherpose.evaluation.coco import CocoScores, keypoint_ap
from featherpose.evaluation.result import Evaluation
from featherpose.formats.values import id_key
from featherpose.records import ImageRecord, Labels

EASY = 0.2
"""Crowd index below which an image is easy."""
HARD = 0.8
"""Crowd index from which on an image is hard."""


@dataclass(frozen=True)
class CrowdScores:
    """Fractions, 0 to 1; nan where there is no such image."""

    ap: float  # mean over the OKS thresholds 0.50, 0.55, ... 0.95
    ap50: float
    ap75: float
    ar: float
    ar50: float
    ar75: float
    ap_easy: float
    ap_medium: float  # of the level between; in `CocoScores` it is that of persons of medium size
    ap_hard: float

    def to_dict(self) -> dict[str, float | None]:
        """The scores by field name, fractions; None (JSON null) instead of nan."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def crowd_scores(labels: Labels, results: Sequence[Mapping[str, Any]]) -> CrowdScores:
    """Labels with crowd indices and COCO keypoint results -> CrowdScores."""
    whole = keypoint_ap(labels, results)
    return CrowdScores(
        ap=whole.ap,
        ap50=whole.ap50,
        ap75=whole.ap75,
        ar=whole.ar,
        ar50=whole.ar50,
        ar75=whole.ar75,
        ap_easy=_level_ap(labels, results, -inf, EASY),
        ap_medium=_level_ap(labels, results, EASY, HARD),
        ap_hard=_level_ap(labels, results, HARD, inf),
    )


def with_crowd_scores(evaluation: Evaluation[CocoScores], labels: Labels) -> Evaluation[CrowdScores]:
    """COCO evaluation and the labels it was made with -> the same with CrowdPose's scores."""
    facts = {field: getattr(evaluation, field) for field in ("results", "num_images", "num_instances", "seconds")}
    facts |= {field: getattr(evaluation, field) for field in ("broken", "warnings", "counts")}
    return Evaluation(scores=crowd_scores(labels, evaluation.results), **facts)


def _level_ap(labels: Labels, results: Sequence[Mapping[str, Any]], low: float, high: float) -> float:
    """AP of the images whose crowd index is at least `low` and below `high`."""
    kept = {index for index, image in enumerate(labels.images) if _is_within(image, low, high)}
    ids = {id_key(labels.images[index].id) for index in kept}
    persons = tuple(person for person in labels.persons if person.image in kept)
    if not persons:
        return nan
    of_level = [result for result in results if id_key(result["image_id"]) in ids]
    return keypoint_ap(replace(labels, persons=persons), of_level).ap


def _is_within(image: ImageRecord, low: float, high: float) -> bool:
    return image.crowd_index is not None and low <= image.crowd_index < high
