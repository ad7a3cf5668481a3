"""Bootstrap confidence intervals of a mean, whose interval is known, and of AP over images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.evaluation.coco import keypoint_ap
from featherpose.evaluation.intervals import ap_interval, bootstrap, paired_difference
from featherpose.formats import coco_labels
from featherpose.records import Labels
from featherpose.skeleton import COCO17

pytest.importorskip("faster_coco_eval")


def test_interval_of_mean_is_196_standard_errors() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), len(values), rounds=2000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_bootstrap_is_deterministic() -> None:
    values = np.arange(10.0)
    assert bootstrap(lambda rows: values[rows].mean(), 10) == bootstrap(lambda rows: values[rows].mean(), 10)


def two_methods(runs: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores (runs, 300) of two methods that differ by `gain`, a little noise, and more noise per pair of runs."""
    rng = np.random.default_rng(2)
    persons = rng.normal(0, 3, 300)
    lucky = rng.normal(0, 0.5, (runs, 2, 1))
    first, second = persons + lucky.swapaxes(0, 1) + rng.normal(0, 1, (2, runs, 300))
    return first, second + gain


def test_paired_difference_ignores_hard_persons() -> None:
    first, second = two_methods(1, gain=0.0)
    found = paired_difference(first, second)
    assert found.mean == pytest.approx((second - first).mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 300), rel=0.15)


def test_paired_difference_covers_runs() -> None:
    found = paired_difference(*two_methods(8, gain=0.2))
    assert found.low < 0 < 0.2 < found.high < 1
    assert paired_difference(*two_methods(8, gain=3.0)).low > 2


@pytest.mark.parametrize("shapes", [((0, 0), (0, 0)), ((3,), (3,)), ((1, 3), (2, 3))])
def test_paired_scores_must_have_equal_shapes(shapes) -> None:
    with pytest.raises(InputError, match=r"wanted two equal \(runs, persons\)"):
        paired_difference(*map(np.zeros, shapes))


def make_results(found: list[bool]) -> tuple[Labels, list[dict]]:
    """One person per image, predicted exactly or far away."""
    keypoints = (
        np.stack([*np.random.default_rng(0).uniform(50, 150, (2, 17)), np.full(17, 2)], axis=-1).ravel().tolist()
    )
    person = {"category_id": 1, "iscrowd": 0, "area": 9000.0, "num_keypoints": 17, "bbox": [40, 40, 120, 120]}
    numbers = range(7, 7 + len(found))
    truth = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 200} for n in numbers],
        "annotations": [{**person, "id": n, "image_id": n, "keypoints": keypoints} for n in numbers],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}],
    }
    away = [value + 500 * (i % 3 < 2) for i, value in enumerate(keypoints)]
    results = [
        {"image_id": n, "category_id": 1, "keypoints": keypoints if right else away, "score": 1 - n / 1000}
        for n, right in zip(numbers, found, strict=True)
    ]
    return coco_labels.from_json(truth, "truth"), results


def keypoint_ap_of(truth: Labels, results: Sequence[Mapping[str, Any]]) -> float:
    return keypoint_ap(truth, results).ap


def test_ap_interval_over_images() -> None:
    truth, results = make_results([True, False] * 15)
    low, high = ap_interval(truth, results, keypoint_ap_of, rounds=60)
    assert 0 < low < keypoint_ap_of(truth, results) < high < 1
    assert 0.15 < high - low < 0.6


@pytest.mark.parametrize("right", [True, False])
def test_identical_images_give_zero_width_interval(right: bool) -> None:
    truth, results = make_results([right] * 5)
    assert ap_interval(truth, results, keypoint_ap_of, rounds=5) == (float(right), float(right))
