"""COCO metrics against the values of COCO's own evaluation, and rejected inputs."""

import copy
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.errors import DataError, MissingExtra
from featherpose.evaluation.coco import bbox_ap, keypoint_ap
from featherpose.formats import coco_labels
from featherpose.records import Labels
from featherpose.skeleton import COCO17

pytest.importorskip("faster_coco_eval")

PERSON = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}


def person(number: int, image: int, left: float = 0.0, size: float = 80.0, labeled: bool = True) -> dict[str, Any]:
    """An annotated person with keypoints on the box's diagonal."""
    steps = np.linspace(0, size, 17)
    keypoints = np.column_stack([left + steps, steps, np.full(17, 2.0 if labeled else 0.0)])
    return {
        **{"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 0.6 * size**2},
        **{"bbox": [left, 0.0, size, size], "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17 * labeled},
    }


def truth(*persons: dict[str, Any]) -> Labels:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 900, "height": 900} for number in (1, 2)]
    return coco_labels.from_json({"images": images, "annotations": list(persons), "categories": [PERSON]}, "truth")


def found(annotation: dict[str, Any], shift: float = 0.0, score: float = 1.0) -> dict[str, Any]:
    """The result for this person, `shift` pixels off in x."""
    keypoints = np.add(np.reshape(annotation["keypoints"], (-1, 3)), (shift, 0, 0))
    return {
        **{"image_id": annotation["image_id"], "category_id": 1, "score": score},
        **{"keypoints": keypoints.ravel().tolist(), "bbox": annotation["bbox"]},
    }


@pytest.mark.parametrize("name", ["coco_keypoints", "coco_keypoints_custom_sigmas", "crowd14_plain_pycocotools"])
def test_keypoint_ap_equals_coco_evaluation(parity: Path, name: str) -> None:
    """The recorded set has tied scores, crowd regions, images without persons and one with more than 20 results."""
    published = json.loads((parity / "coco_eval.json").read_text())[name]
    results = json.loads((parity / published["dets"]).read_text())
    scores = keypoint_ap(coco_labels.read(parity / published["gt"]), results, published["sigmas"])
    np.testing.assert_allclose(list(scores.to_dict().values()), published["stats"], rtol=0, atol=1e-12)


def test_bbox_ap_equals_coco_evaluation(parity: Path) -> None:
    published = json.loads((parity / "coco_eval.json").read_text())["coco_bbox"]
    scores = bbox_ap(
        coco_labels.read(parity / "coco_gt.json"), json.loads((parity / "coco_bbox_dets.json").read_text())
    )
    np.testing.assert_allclose(list(scores.to_dict().values()), published["stats"], rtol=0, atol=1e-12)


def test_recorded_results_contain_hard_cases(parity: Path) -> None:
    results = json.loads((parity / "coco_kpt_dets.json").read_text())
    images = [result["image_id"] for result in results]
    assert max(map(images.count, images)) > 20
    assert len({result["score"] for result in results}) < len(results)


def test_perfect_results_have_ap_one() -> None:
    persons = [person(1, 1), person(2, 1, left=200), person(3, 2, size=200)]
    scores = keypoint_ap(truth(*persons), [found(p) for p in persons])
    assert set(scores.to_dict().values()) == {1.0}


def test_ap_decreases_with_keypoint_shift() -> None:
    persons = [person(1, 1), person(2, 2, size=200)]
    scores = [keypoint_ap(truth(*persons), [found(p, shift) for p in persons]).ap for shift in (0, 4, 8, 200)]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[2] < scores[1] < scores[0]
    assert scores[3] == 0


def test_empty_results_have_ap_zero() -> None:
    scores = keypoint_ap(truth(person(1, 1)), [])
    assert (scores.ap, scores.ar) == (0, 0)
    assert math.isnan(scores.ap_large)
    assert scores.to_dict()["ap_large"] is None


@pytest.mark.parametrize("persons", [[], [person(1, 1, labeled=False)], [{**person(1, 1), "iscrowd": 1}]])
def test_ap_without_ground_truth_is_nan(persons: list[dict[str, Any]]) -> None:
    scores = keypoint_ap(truth(*persons), [found(person(1, 1))])
    assert set(scores.to_dict().values()) == {None}


def test_swapped_left_right_lowers_ap() -> None:
    persons = [person(1, 1), person(2, 2, size=200)]
    results = [found(p) for p in persons]
    swapped = copy.deepcopy(results)
    swapped[0]["keypoints"] = np.reshape(results[0]["keypoints"], (17, 3))[COCO17.flip_order].ravel().tolist()
    assert keypoint_ap(truth(*persons), swapped).ap < keypoint_ap(truth(*persons), results).ap


def test_duplicate_detections_lower_ap() -> None:
    persons = [person(1, 1), person(2, 2)]
    twice = [found(persons[0], score=0.9), found(persons[0], score=0.8), found(persons[1], score=0.7)]
    assert keypoint_ap(truth(*persons), twice).ap < 1


def test_missing_num_keypoints_is_recomputed() -> None:
    lone = person(1, 1)
    del lone["num_keypoints"]
    assert keypoint_ap(truth(lone), [found(lone)]).ap == 1


def test_annotation_with_id_zero_counts() -> None:
    persons = [person(0, 1), person(1, 2)]
    assert keypoint_ap(truth(*persons), [found(p) for p in persons]).ap == 1


def test_missing_area_is_053_of_box_area() -> None:
    lone = person(1, 1)
    del lone["area"]
    same = {**lone, "area": 0.53 * 80 * 80}
    assert keypoint_ap(truth(lone), [found(lone, 6)]) == keypoint_ap(truth(same), [found(lone, 6)])
    assert 0 < keypoint_ap(truth(lone), [found(lone, 6)]).ap < 1


def test_bbox_in_keypoint_result_is_ignored() -> None:
    lone = person(1, 1, size=200)
    extra = found(lone, 500, score=2)
    scores = [
        keypoint_ap(truth(lone), [found(lone), {**extra, "bbox": box}]) for box in ([0, 0, 9, 9], [0, 0, 400, 400])
    ]
    assert scores[0] == scores[1]


def test_results_unchanged_and_no_output_printed(capfd: pytest.CaptureFixture[str]) -> None:
    lone = person(1, 1)
    results = [found(lone)]
    before = copy.deepcopy(results)
    keypoint_ap(truth(lone), results)
    assert results == before
    assert capfd.readouterr() == ("", "")


def test_missing_extra_names_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[eval\]'"):
        keypoint_ap(truth(person(1, 1)), [])


RESULT = found(person(1, 1))
BAD_RESULTS = {
    "image": ({"image_id": 7}, "Result 1 belongs to image 7, which the ground truth does not list"),
    "keypoints": ({"keypoints": [0.0] * 42}, "Result 1 has 42 values in keypoints; the ground truth needs 51"),
    "category": ({"category_id": 9}, r"Result 1 has category 9; the ground truth has 1"),
    "nan": ({"keypoints": [math.nan] * 51}, r"Result 1 \(image 1\) contains a non-finite value"),
    "score": ({"score": math.inf}, r"Result 1 \(image 1\) contains a non-finite value"),
}


@pytest.mark.parametrize(("change", "message"), BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_invalid_result_raises_data_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        keypoint_ap(truth(person(1, 1)), [RESULT, {**RESULT, **change}])


def test_result_without_score_raises() -> None:
    with pytest.raises(DataError, match="Result 0 has no score; wanted image_id, category_id, keypoints, score"):
        keypoint_ap(truth(person(1, 1)), [{key: value for key, value in RESULT.items() if key != "score"}])


def test_sigma_count_must_match_skeleton() -> None:
    with pytest.raises(DataError, match="3 sigmas for 17 keypoints"):
        keypoint_ap(truth(), [], sigmas=[0.1, 0.1, 0.1])


def test_labeled_person_without_a_box_is_not_missed() -> None:
    """Training and evaluation leave out the same persons."""
    one_point = [9, 9, 2, *[0] * 48]
    unusable = [{**person(2, 1), "bbox": None, "keypoints": one_point}, {**person(3, 1), "bbox": [950, 0, 9, 9]}]
    assert keypoint_ap(truth(person(1, 1), *unusable), [found(person(1, 1))]).ar == 1
