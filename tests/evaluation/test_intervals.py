"""Bootstrap confidence intervals of a mean, whose interval is known, and of the scores of each protocol over images."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.evaluation.coco import bbox_ap, bbox_matches, keypoint_ap, keypoint_matches
from featherpose.evaluation.intervals import bootstrap, paired_difference, paired_intervals, with_intervals
from featherpose.evaluation.result import ByImage, Evaluation
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


def evaluation_of(truth: Labels, results: list[dict]) -> Evaluation:
    matches = keypoint_matches(truth, results)
    by_image = ByImage(matches.num_images, matches.scores)
    return Evaluation(matches.scores(), results, len(truth.images), len(results), 0.0, by_image=by_image)


def test_ap_interval_over_images() -> None:
    found = with_intervals(evaluation_of(*make_results([True, False] * 15)), rounds=60)
    low, high = found.intervals["ap"]
    assert 0 < low < found.scores.ap < high < 1
    assert 0.15 < high - low < 0.6
    assert found.to_dict()["intervals"]["ap"] == [low, high]


@pytest.mark.parametrize("right", [True, False])
def test_identical_images_give_zero_width_interval(right: bool) -> None:
    found = with_intervals(evaluation_of(*make_results([right] * 5)), rounds=5)
    assert found.intervals["ap"] == (float(right), float(right))


def test_score_that_no_draw_has_gets_no_interval() -> None:
    """No person of this data set is of medium size."""
    truth, results = make_results([True] * 3)
    large = replace(truth, persons=tuple(replace(person, area=200.0**2) for person in truth.persons))
    assert "ap_medium" not in with_intervals(evaluation_of(large, results), rounds=3).intervals


@pytest.mark.parametrize(
    ("found", "matches", "score"),
    [
        pytest.param("coco_kpt_dets.json", keypoint_matches, keypoint_ap, id="keypoints"),
        pytest.param("coco_bbox_dets.json", bbox_matches, bbox_ap, id="boxes"),
    ],
)
def test_drawn_images_score_as_if_they_were_a_data_set(
    parity: Path, found: str, matches: Callable, score: Callable
) -> None:
    """Images drawn twice count as two images; those not drawn are not there."""
    labels = coco_labels.read(parity / "coco_gt.json")
    results = json.loads((parity / found).read_text())
    rows = np.random.default_rng(3).integers(0, len(labels.images), len(labels.images))
    images = tuple(replace(labels.images[row], id=number) for number, row in enumerate(rows))
    persons = tuple(
        replace(person, image=number)
        for number, row in enumerate(rows)
        for person in labels.persons
        if person.image == row
    )
    drawn = replace(labels, images=images, persons=persons)
    of_drawn = [
        {**result, "image_id": number}
        for number, row in enumerate(rows)
        for result in results
        if result["image_id"] == labels.images[row].id
    ]
    assert matches(labels, results).scores(rows) == score(drawn, of_drawn)


@dataclass(frozen=True)
class Mean:
    mean: float

    def to_dict(self) -> dict[str, float | None]:
        return {"mean": self.mean, "unknown": None}


def mean_of(values: np.ndarray) -> Evaluation[Mean]:
    """An evaluation whose score is the mean of one value per image."""
    by_image = ByImage(len(values), lambda rows: Mean(float(values[rows].mean())))
    return Evaluation(Mean(float(values.mean())), [], len(values), 0, 0.0, by_image=by_image)


def test_paired_interval_ignores_hard_images() -> None:
    first, second = (values[0] for values in two_methods(1, gain=0.5))
    found = paired_intervals(mean_of(first), mean_of(second), rounds=1000)
    assert list(found) == ["mean"]
    assert found["mean"].mean == pytest.approx((second - first).mean())
    assert found["mean"].high - found["mean"].low == pytest.approx(2 * 1.96 * np.sqrt(2 / 300), rel=0.15)


def test_models_on_other_data_are_not_compared() -> None:
    with pytest.raises(InputError, match="on 3 images, the other on 4; compare two on the same data"):
        paired_intervals(mean_of(np.zeros(3)), mean_of(np.zeros(4)))
