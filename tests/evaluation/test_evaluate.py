"""End-to-end evaluation on small synthetic data sets and on six labeled photographs."""

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherpose.data.coco import read_coco
from featherpose.data.dataset import Dataset
from featherpose.errors import DataError, InputError, MissingExtra
from featherpose.evaluation.evaluate import evaluate as evaluate_set
from featherpose.evaluation.evaluate import evaluate_detected
from featherpose.evaluation.result import Evaluation
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14
from tests.evaluation.folders import SAMPLES, SIZE, lookup_predictor, one_by_one, person, write_folder
from tests.evaluation.test_detector import answers

pytest.importorskip("faster_coco_eval")


def evaluate(dataset: Dataset, predict: Callable[[Any, Any], Poses], *boxes: Any, **options: Any) -> Evaluation[Any]:
    """`evaluate` with a function that predicts one image."""
    return evaluate_set(dataset, one_by_one(predict), *boxes, **options)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_folder(tmp_path / "data"))


@pytest.fixture(scope="session")
def photographs(shared: Path) -> Dataset:
    """Six photographs of coco-test with all their annotations."""
    whole = read_coco(shared / "data/coco-test")
    chosen = sorted({person.image for person in whole.labels.usable()[0]})[:6]
    persons = tuple(person for person in whole.labels.persons if person.image in chosen)
    return Dataset(replace(whole.labels, persons=persons), whole.images)


def test_perfect_poses_have_ap_one_and_counts(dataset: Dataset) -> None:
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels))
    assert (evaluation.scores.ap, evaluation.scores.ar) == (1, 1)
    assert (evaluation.num_images, evaluation.num_instances) == (2, 3)
    assert (evaluation.broken, evaluation.warnings) == ((), ())
    assert evaluation.seconds > 0


def test_gt_boxes_skip_crowds_and_unlabeled(dataset: Dataset) -> None:
    asked: list[list[float]] = []

    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        asked.extend(boxes.tolist())
        return lookup_predictor(dataset.labels)(image, boxes)

    evaluate(dataset, predict)
    assert asked == [[10, 20, 70, 120], [150, 30, 270, 210], [40, 10, 140, 210]]


def test_results_are_in_coco_format(dataset: Dataset) -> None:
    results = json.loads(json.dumps(evaluate(dataset, lookup_predictor(dataset.labels)).results))
    assert [result["image_id"] for result in results] == [5, 5, 7]
    first = np.reshape(results[0]["keypoints"], (17, 3))
    np.testing.assert_allclose(first[:, :2], np.reshape(SAMPLES[0]["keypoints"], (17, 3))[:, :2], atol=1e-4)
    assert (first[:, 2] == 1).all()
    assert {(result["category_id"], result["score"]) for result in results} == {(1, 1.0)}


def test_photographs_perfect_poses_have_ap_one(photographs: Dataset) -> None:
    evaluation = evaluate(photographs, lookup_predictor(photographs.labels))
    assert (evaluation.scores.ap, evaluation.num_images, evaluation.broken) == (1, 6, ())
    assert evaluation.num_instances == len(photographs.labels.usable()[0])


def test_photographs_ap_decreases_with_error(photographs: Dataset) -> None:
    def score(modify: Any) -> float:
        return evaluate(photographs, lookup_predictor(photographs.labels, modify)).scores.ap

    shifted = [score(lambda keypoints, shift=shift: keypoints + shift) for shift in (0, 3, 8, 1000)]
    assert shifted == sorted(shifted, reverse=True)
    assert shifted[0] == 1
    assert shifted[0] > shifted[1] > shifted[2] > shifted[3] == 0
    assert score(lambda keypoints: keypoints[COCO17.flip_order]) < 0.5


def test_swapped_left_right_lowers_ap(dataset: Dataset) -> None:
    assert (
        evaluate(dataset, lookup_predictor(dataset.labels, lambda keypoints: keypoints[COCO17.flip_order])).scores.ap
        < 1
    )


def test_keypoint_scores_lower_person_score(dataset: Dataset) -> None:
    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        found = lookup_predictor(dataset.labels)(image, boxes)
        return Poses(found.keypoints, found.scores * 0.5, boxes, found.box_scores, COCO17, SIZE)

    assert {result["score"] for result in evaluate(dataset, predict).results} == {0.5}


def test_progress_runs_from_zero_to_total(dataset: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(dataset, lookup_predictor(dataset.labels), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_missing_extra_raises_before_inference(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[eval\]'"):
        evaluate(dataset, lambda image, boxes: pytest.fail("posed"))


def test_nobody_to_evaluate_is_refused(tmp_path: Path) -> None:
    empty = read_coco(write_folder(tmp_path, annotations=SAMPLES[3:]))
    with pytest.raises(DataError, match=r"0 of 3 annotations of .* used; left out: 1 crowd regions \(first"):
        evaluate(empty, lambda image, boxes: pytest.fail("posed"))


def detections(tmp_path: Path, rows: list[tuple[int, list[float], float]]) -> Path:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([{"image_id": i, "category_id": 1, "bbox": box, "score": s} for i, box, s in rows]))
    return path


FOUND = [(5, SAMPLES[0]["bbox"], 0.9), (5, SAMPLES[1]["bbox"], 0.8), (7, SAMPLES[2]["bbox"], 0.7)]


def test_detected_boxes_keep_their_scores(dataset: Dataset, tmp_path: Path) -> None:
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels), detections(tmp_path, FOUND))
    assert evaluation.scores.ap == 1
    assert [round(result["score"], 5) for result in evaluation.results] == [0.9, 0.8, 0.7]


def test_duplicate_detections_are_suppressed(dataset: Dataset, tmp_path: Path) -> None:
    twice = [(5, [12, 22, 60, 100], 0.95), *FOUND]
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels), detections(tmp_path, twice))
    assert (evaluation.num_instances, len(evaluation.results)) == (4, 3)
    assert evaluation.scores.ap == 1
    assert evaluation.results[0]["score"] == pytest.approx(0.95)


def twice(number: int, boxes: list[list[float]]) -> list[list[float]]:
    return [*boxes, *boxes]


@pytest.mark.parametrize(
    ("change", "ap", "instances"),
    [
        pytest.param(lambda number, boxes: [], 0, 0, id="nobody"),
        pytest.param(lambda number, boxes: boxes, 1, 5, id="everybody"),
        pytest.param(lambda number, boxes: boxes[:1], 0.67, 3, id="one in each image"),
        pytest.param(twice, 1, 10, id="everybody twice"),
    ],
)
def test_detected_boxes_beside_those_labeled(
    dataset: Dataset, change: Callable[[int, list[list[float]]], list[list[float]]], ap: float, instances: int
) -> None:
    seen: list[tuple[int, int]] = []
    evaluation = evaluate_detected(
        dataset,
        one_by_one(lookup_predictor(dataset.labels)),
        answers(change),
        lambda poses: poses[np.unique(poses.boxes_xyxy, axis=0, return_index=True)[1]],
        lambda done, total: seen.append((done, total)),
    )
    assert evaluation.scores.ap == pytest.approx(ap, abs=0.01) and evaluation.gt_scores.ap == 1
    assert evaluation.difference()["ap"] == pytest.approx(ap - 1, abs=0.01)
    assert (evaluation.num_images, evaluation.num_instances) == (4, instances)
    assert len(evaluation.results) == min(instances, 5)
    assert evaluation.results == [] or max(result["score"] for result in evaluation.results) == pytest.approx(0.9)
    assert seen == [(0, 6), (1, 6), (2, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
    assert evaluation.to_dict()["difference"]["ap_large"] == evaluation.difference()["ap_large"]


def duplicate_boxes(tmp_path: Path, number: int) -> tuple[Dataset, Path]:
    """One image with one person and `number` detected boxes, each shifted further to the right, with falling scores."""
    alone = read_coco(write_folder(tmp_path / "alone", annotations=SAMPLES[:1]))
    left, top, width, height = SAMPLES[0]["bbox"]
    rows = [(5, [left + 0.05 * i, top, width, height], 0.9 - 0.01 * i) for i in range(number)]
    return alone, detections(tmp_path, rows)


@pytest.mark.parametrize(("nms", "kept"), [(None, 1), ("oks", 1), ("pose", 1), ("soft", 20), ("none", 30)])
def test_nms_option_selects_method(tmp_path: Path, nms: str | None, kept: int) -> None:
    alone, boxes = duplicate_boxes(tmp_path, 30)
    evaluation = evaluate(alone, lookup_predictor(alone.labels), boxes, nms=nms)
    assert (evaluation.num_instances, len(evaluation.results)) == (30, kept)
    assert max(result["score"] for result in evaluation.results) == pytest.approx(0.9)


def test_pose_nms_depends_on_keypoint_scores(tmp_path: Path) -> None:
    """Two poses that share eleven of seventeen keypoints: duplicates by pose NMS if these keypoints are confident."""
    alone, boxes = duplicate_boxes(tmp_path, 2)

    def predict(image: np.ndarray, boxes_xyxy: np.ndarray, score: float) -> Poses:
        found = lookup_predictor(alone.labels)(image, boxes_xyxy)
        keypoints = found.keypoints.copy()
        keypoints[1, 11:] += 60
        return Poses(keypoints, np.full(found.scores.shape, score), boxes_xyxy, found.box_scores, COCO17, SIZE)

    def kept(nms: str, score: float) -> int:
        return len(evaluate(alone, lambda image, at: predict(image, at, score), boxes, nms=nms).results)

    assert [kept("oks", score) for score in (0.25, 0.9)] == [2, 2]
    assert [kept("pose", score) for score in (0.25, 0.9)] == [2, 1]


def test_jitter_is_deterministic_and_scaled(dataset: Dataset) -> None:
    def asked(jitter: float) -> np.ndarray:
        seen: list[list[float]] = []

        def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
            seen.extend(boxes.tolist())
            return lookup_predictor(dataset.labels)(image, boxes)

        evaluation = evaluate(dataset, predict, jitter=jitter)
        assert (evaluation.scores.ap, evaluation.num_instances) == (1, 3), "the ground truth does not change"
        return np.array(seen)

    plain, off = asked(0), asked(0.05)
    sides = np.tile(plain[:, 2:] - plain[:, :2], 2)
    assert np.array_equal(off, asked(0.05))
    assert (np.abs(off - plain) / sides).max() <= 0.1001
    assert np.count_nonzero(np.abs(off - plain) / sides > 0.005) >= 9
    np.testing.assert_allclose(asked(0.1) - plain, 2 * (off - plain), atol=1e-3)


OPTIONS = {
    "unknown": ({"nms": "posse"}, True, r"nms 'posse' is unknown\. Did you mean 'pose'"),
    "nms of labeled boxes": ({"nms": "oks"}, False, "nms oks is for detected boxes"),
    "jitter of detected boxes": ({"jitter": 0.1}, True, r"jitter 0\.1 is for labeled boxes.*--boxes gt"),
    "jitter too large": ({"jitter": 0.25}, False, r"jitter is 0\.25, wanted 0 \(none\) to below 0\.25"),
    "jitter below zero": ({"jitter": -0.1}, False, r"jitter is -0\.1"),
    "jitter nan": ({"jitter": float("nan")}, False, "jitter is nan"),
}


@pytest.mark.parametrize(("options", "detected", "message"), OPTIONS.values(), ids=OPTIONS)
def test_invalid_options_raise_before_inference(
    dataset: Dataset, tmp_path: Path, options: dict[str, Any], detected: bool, message: str
) -> None:
    boxes = detections(tmp_path, FOUND) if detected else "gt"
    with pytest.raises(InputError, match=message):
        evaluate(dataset, lambda image, boxes: pytest.fail("posed"), boxes, **options)


def test_gt_boxes_are_never_suppressed(tmp_path: Path) -> None:
    pair = read_coco(
        write_folder(tmp_path, annotations=[person(1, 5, (10, 10, 80, 90)), person(2, 5, (11, 10, 80, 90))])
    )
    assert len(evaluate(pair, lookup_predictor(pair.labels)).results) == 2


def test_boxes_by_image_name_are_accepted(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"photo-5.png": [[10, 20, 70, 120]], "photo-7.png": [], "photo-8.png": []}))
    with pytest.raises(
        InputError, match=r'no entry for photo-9\.png; add "photo-9\.png": \[\] if it contains no person'
    ):
        evaluate(dataset, lookup_predictor(dataset.labels), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "photo-9.png": []}))
    assert len(evaluate(dataset, lookup_predictor(dataset.labels), path).results) == 1


def test_detections_match_by_image_id_not_name(dataset: Dataset, tmp_path: Path) -> None:
    """An image may be named 7.png and have the id 5."""
    (dataset.images / "photo-5.png").rename(dataset.images / "7.png")
    first, *others = dataset.labels.images
    renamed = replace(dataset.labels, images=(replace(first, name="7.png"), *others))
    evaluation = evaluate(Dataset(renamed, dataset.images), lookup_predictor(renamed), detections(tmp_path, FOUND[:2]))
    assert [result["image_id"] for result in evaluation.results] == [5, 5]


def test_unusable_boxes_are_skipped_and_counted(dataset: Dataset, tmp_path: Path) -> None:
    odd = [(5, [400, 0, 20, 20], 0.9), (5, [10, 10, 0, 50], 0.9), (5, [-90, 0, 50, 50], 0.9)]
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels), detections(tmp_path, [*FOUND, *odd]))
    assert (evaluation.num_instances, len(evaluation.results)) == (3, 3)
    assert evaluation.counts[1].summary() == (
        "3 of 6 detections of boxes.json used; left out: 1 without a box that has an area (first [4]),"
        " 2 with a box outside the image (first [3])."
    )


BOX_FILES = {
    "missing": (None, "cannot be read .*type --boxes gt"),
    "not JSON": ("{", "not JSON .*type --boxes gt"),
    "no boxes": ("3", "The boxes are a JSON int; wanted"),
    "no detections": ("[]", "no box on any of the 4 images"),
    "no entries": ("{}", "no entry for photo-5"),
    "another image": (
        '[{"image_id": 99, "bbox": [0, 0, 9, 9], "score": 1}]',
        r"the entries are of images 99, the images of the data set are photo-5\.png \(id 5\), photo-7",
    ),
}


@pytest.mark.parametrize(("text", "message"), BOX_FILES.values(), ids=BOX_FILES)
def test_invalid_box_file_raises(dataset: Dataset, tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InputError, match=rf"boxes\.json: {message}"):
        evaluate(dataset, lookup_predictor(dataset.labels), tmp_path / "boxes.json")


def test_broken_image_is_listed_and_missed(dataset: Dataset) -> None:
    (dataset.images / "photo-7.png").write_bytes(b"no picture")
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels))
    assert (evaluation.num_images, evaluation.num_instances) == (1, 2)
    assert evaluation.scores.ar == pytest.approx(2 / 3)
    assert len(evaluation.broken) == 1
    assert "photo-7.png: not an image" in evaluation.broken[0]
    assert evaluation.warnings == ("1 of 2 images could not be used; their persons count as missed.",)


def test_image_size_mismatch_is_broken(dataset: Dataset) -> None:
    first, *others = dataset.labels.images
    wider = replace(dataset.labels, images=(replace(first, size=Size(height=240, width=321)), *others))
    broken = evaluate(Dataset(wider, dataset.images), lookup_predictor(wider)).broken
    assert broken == ("photo-5.png: the image has 240x320 pixels, but is annotated with 240x321.",)


def test_brightened_images_are_counted(dataset: Dataset) -> None:
    Image.fromarray(np.full(SIZE.shape, 3000, np.uint16)).save(dataset.images / "photo-7.png")
    evaluation = evaluate(dataset, lookup_predictor(dataset.labels))
    assert evaluation.warnings == (
        "1 image (first photo-7.png): 12 of 16 bits are used; brightened, as if 4095 were white.",
    )


@pytest.mark.parametrize(("number", "warns"), [(20, False), (21, True)])
def test_more_people_than_the_metric_counts(tmp_path: Path, number: int, warns: bool) -> None:
    crowded = read_coco(write_folder(tmp_path, [person(i, 5, (10 + 3 * i, 20, 60, 100)) for i in range(number)]))
    warning = (
        "1 images have more than 20 labeled persons (first photo-5.png): the metric counts only the 20 best poses of an"
        " image."
    )
    assert evaluate(crowded, lookup_predictor(crowded.labels)).warnings == ((warning,) if warns else ())


def test_boxes_that_look_wrong_warn_or_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    boxes = detections(tmp_path, [(image, [0.1, 0.2, 0.5, 0.6], 0.9) for image in (5, 7, 8)])
    found = evaluate(dataset, lookup_predictor(dataset.labels), boxes).warnings
    assert found[0].startswith("3 of 3 boxes are between 0 and 1")
    with pytest.raises(InputError, match=r"boxes\.json: 3 of 3 boxes are between 0 and 1"):
        evaluate(dataset, lambda image, at: pytest.fail("posed"), boxes, strict=True)


def test_data_set_without_usable_image_raises(dataset: Dataset) -> None:
    for file in dataset.images.iterdir():
        file.unlink()
    with pytest.raises(
        DataError, match=r"None of the 2 images could be used; first error: .*photo-5\.png: no such file"
    ):
        evaluate(dataset, lookup_predictor(dataset.labels))


def test_model_with_other_skeleton_raises(dataset: Dataset) -> None:
    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        n = len(boxes)
        return Poses(np.zeros((n, 14, 2)), np.zeros((n, 14)), boxes, np.ones(n), LSP14, SIZE)

    with pytest.raises(DataError, match="predicts the 14 keypoints of lsp14, the data set labels the 17 of coco17"):
        evaluate(dataset, predict)


def test_predictor_losing_instances_raises(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="0 poses for 2 boxes; evaluation needs one pose per box"):
        evaluate(dataset, lambda image, boxes: Poses.empty(COCO17, SIZE))


def changed(factor: float | None) -> list[dict[str, Any]]:
    """`SAMPLES` with areas multiplied by `factor`; None removes them."""
    annotations = copy.deepcopy(SAMPLES)
    for annotation in annotations:
        area = annotation.pop("area")
        if factor is not None:
            annotation["area"] = area * factor
    return annotations


AREAS = {
    "right": (1, 2, None),
    "normalized": (1e-5, 2, "OKS is 0.00 but the error is 2.8 px: area (too small) or sigmas look wrong."),
    "huge": (1e5, 60, "OKS is 1.00 but the error is 84.9 px: area (too large) or sigmas look wrong."),
    "right, bad poses": (1, 40, None),
    "right, poses elsewhere": (1, 300, None),
}


@pytest.mark.parametrize(("factor", "shift", "warning"), AREAS.values(), ids=AREAS)
def test_implausible_area_gives_warning(
    tmp_path: Path, factor: float | None, shift: float, warning: str | None
) -> None:
    odd = read_coco(write_folder(tmp_path, annotations=changed(factor)))
    evaluation = evaluate(odd, lookup_predictor(odd.labels, lambda keypoints: keypoints + shift))
    assert evaluation.warnings == ((warning,) if warning else ())
