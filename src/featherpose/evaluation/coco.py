"""COCO metrics: average precision (AP) and recall (AR) over object keypoint similarity (OKS) or box IoU.

Lin et al. 2014, https://cocodataset.org/#keypoints-eval. faster-coco-eval does the matching; its assumptions about the
input are checked here first. Every score is a fraction, 0 to 1, and nan where the ground truth contains no person to
find (COCO's own code returns -1).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import DataError, MissingExtra
from featherpose.oks import person_area
from featherpose.skeleton import COCO17

Annotation = Mapping[str, Any]


@dataclass(frozen=True)
class CocoScores:
    """COCO's ten keypoint metrics, fractions 0 to 1; nan where no person of that size is annotated."""

    ap: float  # mean over the OKS thresholds 0.50, 0.55, ... 0.95
    ap50: float
    ap75: float
    ap_medium: float  # persons of 32² to 96² px
    ap_large: float  # persons of more than 96² px
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float

    def to_dict(self) -> dict[str, float | None]:
        """The scores by field name, fractions; None (JSON null) instead of nan."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class BoxScores:
    """COCO's twelve box metrics, fractions 0 to 1; nan where no box of that size is annotated."""

    ap: float  # mean over the IoU thresholds 0.50, 0.55, ... 0.95
    ap50: float
    ap75: float
    ap_small: float  # boxes smaller than 32² px
    ap_medium: float
    ap_large: float
    ar1: float  # with one detection per image
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float

    def to_dict(self) -> dict[str, float | None]:
        """The scores by field name, fractions; None (JSON null) instead of nan."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def keypoint_ap(
    ground_truth: Mapping[str, Any] | str | Path,
    results: Sequence[Annotation],
    sigmas: Sequence[float] | None = None,
) -> CocoScores:
    """COCO annotations (dict or JSON file) and COCO keypoint results (x, y, score per keypoint; pixels) -> CocoScores.

    As on COCO's server: only the 20 best persons of an image count, crowd regions and persons without a labeled
    keypoint are ignored (neither found nor missed), and a `bbox` in a result is not used. An annotation without `area`
    gets 0.53 of its box area. `sigmas` (K,) default to COCO's for 17 keypoints.
    """
    truth = _read(ground_truth)
    categories = [category for category in truth["categories"] if category.get("keypoints")]
    num_keypoints = _count_keypoints(categories)
    known = {category["id"] for category in categories}
    persons = [_person(a, num_keypoints) for a in truth["annotations"] if a["category_id"] in known]
    found = _results(results, truth["images"], known, "keypoints", 3 * num_keypoints)
    return CocoScores(*_match(truth["images"], categories, persons, found, _sigmas(sigmas, num_keypoints))[:10])


def bbox_ap(ground_truth: Mapping[str, Any] | str | Path, results: Sequence[Annotation]) -> BoxScores:
    """COCO annotations (dict or JSON file) and COCO box results (left, top, width, height; pixels) -> BoxScores."""
    truth = _read(ground_truth)
    persons = [_box(a) for a in truth["annotations"]]
    found = _results(results, truth["images"], {c["id"] for c in truth["categories"]}, "bbox", 4)
    return BoxScores(*_match(truth["images"], truth["categories"], persons, found, None)[:12])


def area(annotation: Annotation) -> float:
    """COCO annotation -> the person's area in px²: as annotated, else 0.53 of the box area."""
    return person_area(annotation.get("area"), annotation["bbox"])


def evaluator() -> tuple[Any, Any]:
    """faster-coco-eval's two classes; MissingExtra if it is not installed (call it before long work, not after)."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise MissingExtra("COCO evaluation", "eval") from None
    return COCO, COCOeval_faster


def _read(ground_truth: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(ground_truth, str | Path):
        name = str(ground_truth)
        truth = files.read_json(Path(ground_truth), error=DataError)
    else:
        name = "The ground truth"
        truth = ground_truth
    missing = [key for key in ("images", "annotations", "categories") if key not in truth]
    if missing:
        raise DataError(f"{name} has no {' and no '.join(missing)}; wanted a COCO annotation file.")
    return truth


def _count_keypoints(categories: Sequence[Annotation]) -> int:
    numbers = sorted({len(category["keypoints"]) for category in categories})
    if not numbers:
        raise DataError("No category of the ground truth names its keypoints; wanted a COCO keypoint file.")
    if len(numbers) > 1:
        raise DataError(f"The categories have {numbers} keypoints; give a file with one skeleton for all persons.")
    return numbers[0]


def _sigmas(sigmas: Sequence[float] | None, num_keypoints: int) -> list[float]:
    if sigmas is None and num_keypoints == COCO17.num_keypoints:
        return list(COCO17.sigmas)
    if sigmas is None or len(sigmas) != num_keypoints:
        raise DataError(f"{len(sigmas or ())} sigmas for {num_keypoints} keypoints; give one per keypoint (`sigmas=`).")
    return [float(sigma) for sigma in sigmas]


def _person(annotation: Annotation, num_keypoints: int) -> dict[str, Any]:
    """Annotation -> the fields used for matching. `num_keypoints` is recomputed: custom files often lack it."""
    keypoints = annotation.get("keypoints") or [0] * (3 * num_keypoints)
    if len(keypoints) != 3 * num_keypoints:
        raise DataError(
            f"Annotation {annotation.get('id')} has {len(keypoints)} keypoint values;"
            f" {num_keypoints} keypoints need {3 * num_keypoints}."
        )
    return {**_box(annotation), "keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3])}


def _box(annotation: Annotation) -> dict[str, Any]:
    if len(annotation.get("bbox") or ()) != 4:
        raise DataError(f"Annotation {annotation.get('id')} has no bbox (left, top, width, height).")
    copied = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
    return {**copied, "area": area(annotation), "iscrowd": int(annotation.get("iscrowd", 0))}


def _results(
    results: Sequence[Annotation], images: Iterable[Annotation], categories: set[int], field: str, length: int
) -> list[dict[str, Any]]:
    """Results -> copies with only the fields used for matching; DataError for the first invalid result."""
    names, keys = {image["id"] for image in images}, ("image_id", "category_id", field, "score")
    for i, result in enumerate(results):
        if missing := [key for key in keys if key not in result]:
            raise DataError(f"Result {i} has no {' and no '.join(missing)}; wanted {', '.join(keys)}.")
        if result["image_id"] not in names:
            raise DataError(f"Result {i} belongs to image {result['image_id']}, which the ground truth does not list.")
        if result["category_id"] not in categories:
            raise DataError(
                f"Result {i} has category {result['category_id']}; the ground truth has {sorted(categories)}."
            )
        if len(result[field]) != length:
            raise DataError(f"Result {i} has {len(result[field])} values in {field}; the ground truth needs {length}.")
        if not all(map(isfinite, (*result[field], result["score"]))):
            raise DataError(f"Result {i} (image {result['image_id']}) contains a non-finite value.")
    return [{key: result[key] for key in keys} for result in results]


def _match(
    images: Sequence[Annotation],
    categories: Sequence[Annotation],
    persons: Sequence[Annotation],
    results: list[dict[str, Any]],
    sigmas: list[float] | None,
) -> list[float]:
    """Checked persons and results -> the evaluator's scores in its own order; by OKS with sigmas, by IoU without."""
    annotation_set, matcher = evaluator()
    # Ids start at 1: the evaluator treats an annotation with id 0 as unmatched.
    annotations = [{**person, "id": number} for number, person in enumerate(persons, start=1)]
    truth = annotation_set({"images": list(images), "annotations": annotations, "categories": list(categories)})
    kind = "bbox" if sigmas is None else "keypoints"
    scores = matcher(truth, truth.loadRes(results), kind, print_function=_print_nothing, kpt_oks_sigmas=sigmas)
    scores.run()
    return [nan if value < 0 else float(value) for value in scores.all_stats]


def _print_nothing(*_: object) -> None:
    """Replaces the evaluator's print function, which prints a table by default."""
