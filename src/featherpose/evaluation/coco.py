"""COCO metrics: average precision (AP) and recall (AR) over object keypoint similarity (OKS) or box IoU.

Lin et al. 2014, https://cocodataset.org/#keypoints-eval. faster-coco-eval does the matching; it gets a COCO document
built from the records here. Every score is a fraction, 0 to 1, and nan where the ground truth contains no person to
find (COCO's own code returns -1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import DataError, MissingExtra
from featherpose.formats.values import id_key
from featherpose.records import NO_BOX, OUTSIDE, Labels, PersonRecord, unusable

CATEGORY = 1
"""Id of the one category in the document for the evaluator."""
MAX_PERSONS = 20
"""The metric counts at most so many poses of an image, the best ones."""

Result = Mapping[str, Any]
"""A pose or a box in COCO's results format."""


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


S = TypeVar("S", bound=CocoScores | BoxScores)


class Matches(Generic[S]):
    """Poses or boxes matched to the persons of I images: what it takes to score any draw of these images."""

    def __init__(self, evaluation: Any, num_images: int, score: Callable[[list[float]], S]) -> None:
        self._evaluation = evaluation
        # One per area range and image; the images of a range stand together.
        self._by_image: list[Any] = evaluation._evalImgs_cpp
        self._score = score
        self.num_images = num_images

    def scores(self, rows: NDArray[np.int64] | None = None) -> S:
        """I indices of images, one of them as often as it is drawn (None: each once) -> their scores."""
        drawn = self._by_image
        if rows is not None:
            starts = range(0, len(self._by_image), self.num_images)
            drawn = [self._by_image[start + row] for start in starts for row in rows.tolist()]
        self._evaluation._evalImgs_cpp = drawn
        self._evaluation.accumulate()
        self._evaluation.summarize()
        return self._score([nan if value < 0 else float(value) for value in self._evaluation.all_stats])


def keypoint_ap(labels: Labels, results: Sequence[Result], sigmas: Sequence[float] | None = None) -> CocoScores:
    """Labels and COCO keypoint results (x, y, score per keypoint; pixels) -> CocoScores.

    As on COCO's server: only the 20 best persons of an image count, crowd regions and persons without a labeled
    keypoint are ignored (neither found nor missed), and a `bbox` in a result is not used. A person without an area has
    0.53 of the box's. `sigmas` (K,): None for those of the skeleton.
    """
    return keypoint_matches(labels, results, sigmas).scores()


def keypoint_matches(
    labels: Labels, results: Sequence[Result], sigmas: Sequence[float] | None = None
) -> Matches[CocoScores]:
    """As for `keypoint_ap` -> the matches, which score all images or a draw of them."""
    num_keypoints = labels.skeleton.num_keypoints
    sigmas = labels.skeleton.sigmas if sigmas is None else sigmas
    if len(sigmas) != num_keypoints:
        raise DataError(f"{len(sigmas)} sigmas for {num_keypoints} keypoints; give one per keypoint (`sigmas=`).")
    left_out = (NO_BOX, OUTSIDE)
    persons = [p for p in labels.persons if unusable(p, labels.images[p.image].size) not in left_out]
    found = _results(results, labels, "keypoints", 3 * num_keypoints)
    bounds = _bounds([result["keypoints"] for result in found], num_keypoints)
    found = [{**result, "bbox": bound} for result, bound in zip(found, bounds, strict=True)]
    annotations = [_annotation(person, num_keypoints) for person in persons]
    evaluation = _match(labels, annotations, found, [float(sigma) for sigma in sigmas])
    return Matches(evaluation, len(labels.images), lambda values: CocoScores(*values[:10]))


def bbox_ap(labels: Labels, results: Sequence[Result]) -> BoxScores:
    """Labels and COCO box results (left, top, width, height; pixels) -> BoxScores.

    Persons without a box do not count.
    """
    return bbox_matches(labels, results).scores()


def bbox_matches(labels: Labels, results: Sequence[Result]) -> Matches[BoxScores]:
    """As for `bbox_ap` -> the matches, which score all images or a draw of them."""
    annotations = [_annotation(person, 0) for person in labels.persons if person.box_xywh is not None]
    evaluation = _match(labels, annotations, _results(results, labels, "bbox", 4), None)
    return Matches(evaluation, len(labels.images), lambda values: BoxScores(*values[:12]))


def evaluator() -> tuple[Any, Any]:
    """faster-coco-eval's two classes; MissingExtra if it is not installed (call it before long work, not after)."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise MissingExtra("COCO evaluation", "eval") from None
    return COCO, COCOeval_faster


def _annotation(person: PersonRecord, num_keypoints: int) -> dict[str, Any]:
    """Person -> the fields used for matching. Ids of images are their indices from 1 on."""
    keypoints = np.zeros((num_keypoints, 3)) if person.keypoints is None else person.keypoints[:num_keypoints]
    return {
        "image_id": person.image + 1,
        "category_id": CATEGORY,
        "bbox": [0.0] * 4 if person.box_xywh is None else person.box_xywh.tolist(),
        "area": person.known_area,
        "iscrowd": int(person.crowd),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2] > 0)),
    }


def _results(results: Sequence[Result], labels: Labels, field: str, length: int) -> list[dict[str, Any]]:
    """Results -> copies with only the fields used for matching; DataError for the first invalid result."""
    indices = {id_key(image.id): index for index, image in enumerate(labels.images)}
    keys = ("image_id", "category_id", field, "score")
    found: list[dict[str, Any]] = []
    for i, result in enumerate(results):
        if missing := [key for key in keys if key not in result]:
            raise DataError(f"Result {i} has no {' and no '.join(missing)}; wanted {', '.join(keys)}.")
        index = indices.get(id_key(result["image_id"]))
        if index is None:
            raise DataError(f"Result {i} belongs to image {result['image_id']}, which the ground truth does not list.")
        if id_key(result["category_id"]) != id_key(labels.category):
            raise DataError(f"Result {i} has category {result['category_id']}; the ground truth has {labels.category}.")
        if len(result[field]) != length:
            raise DataError(f"Result {i} has {len(result[field])} values in {field}; the ground truth needs {length}.")
        found.append({**{key: result[key] for key in keys}, "image_id": index + 1, "category_id": CATEGORY})
    values = np.array([[*result[field], result["score"]] for result in found], np.float64).reshape(-1, length + 1)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        first = int(finite.argmin())
        raise DataError(f"Result {first} (image {results[first]['image_id']}) contains a non-finite value.")
    return found


def _bounds(keypoints: Sequence[Sequence[float]], num_keypoints: int) -> list[list[float]]:
    """Keypoints of N results, x, y and score each -> their bounds as left, top, width, height.

    Their area decides which unmatched results belong to medium or large persons. The evaluator would compute the same
    for one result at a time, which takes most of its time.
    """
    points = np.array(keypoints, np.float64).reshape(-1, num_keypoints, 3)[..., :2]
    if not len(points):
        return []
    low = points.min(axis=1)
    return np.concatenate([low, points.max(axis=1) - low], axis=1).tolist()


def _match(
    labels: Labels, annotations: Sequence[dict[str, Any]], results: list[dict[str, Any]], sigmas: list[float] | None
) -> Any:
    """Checked persons and results -> the evaluator with matched images; by OKS with sigmas, by IoU without."""
    annotation_set, matcher = evaluator()
    # Ids start at 1: the evaluator treats an annotation with id 0 as unmatched.
    numbered = [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)]
    images = [{"id": index + 1} for index in range(len(labels.images))]
    category = {"id": CATEGORY, "name": labels.category_name, "keypoints": list(labels.skeleton.keypoint_names)}
    truth = annotation_set({"images": images, "annotations": numbered, "categories": [category]})
    evaluation = matcher(
        truth,
        truth.loadRes(results),
        "bbox" if sigmas is None else "keypoints",
        print_function=_print_nothing,
        separate_eval=True,  # keeps the matches of each image
        kpt_oks_sigmas=sigmas,
    )
    evaluation.evaluate()
    return evaluation


def _print_nothing(*_: object) -> None:
    """Replaces the evaluator's print function, which prints a table by default."""
