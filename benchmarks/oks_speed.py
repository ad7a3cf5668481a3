"""OKS evaluation of 5,000 images with 100,000 predictions, as a multiple of bare faster-coco-eval on the same data.

    python benchmarks/oks_speed.py --out benchmarks/results/oks_speed.json

Made persons: 11,000 labeled ones, and predictions that are some of them with an error. Both sides begin with the parsed
JSON of labels and results and end with the ten scores, which must be equal. They take turns; times are medians over the
rounds, the ratio is the median of the ratios of a round. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from featherpose import files
from featherpose.evaluation.coco import keypoint_ap
from featherpose.formats import coco_labels
from featherpose.machine import available_threads, cpu_model
from featherpose.skeleton import COCO17

IMAGES = 5_000
PERSONS = 11_000
PREDICTIONS = 100_000


def make_labels(rng: np.random.Generator) -> dict[str, Any]:
    """Persons in images of 480x640, a third of the keypoints not labeled, in COCO's format."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, IMAGES + 1)]
    annotations: list[dict[str, Any]] = []
    for number in range(1, PERSONS + 1):
        box = np.concatenate([rng.uniform(0, (400, 250)), rng.uniform(40, 220, 2)])
        keypoints = np.column_stack([box[:2] + rng.random((17, 2)) * box[2:], rng.integers(0, 3, 17)]).round()
        keypoints[0, 2] = 2
        facts = {"image_id": int(rng.integers(1, IMAGES + 1)), "category_id": 1, "iscrowd": 0}
        numbers = {"bbox": box.tolist(), "area": float(0.6 * box[2] * box[3])}
        labeled = int(np.count_nonzero(keypoints[:, 2]))
        annotations.append(
            {"id": number, **facts, **numbers, "keypoints": keypoints.ravel().tolist(), "num_keypoints": labeled}
        )
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def make_results(labels: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """About nine predictions of each person, with errors of some pixels, in COCO's results format."""
    results: list[dict[str, Any]] = []
    for number in range(PREDICTIONS):
        person = labels["annotations"][number % PERSONS]
        keypoints = np.reshape(person["keypoints"], (17, 3)).copy()
        keypoints[:, :2] += rng.normal(0, 6, (17, 2))
        score = float(rng.random())
        results.append(
            {
                **{"image_id": person["image_id"], "category_id": 1, "score": score},
                "keypoints": keypoints.round(2).ravel().tolist(),
            }
        )
    return results


def bare(labels: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """faster-coco-eval alone."""
    truth = COCO(labels)
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "keypoints", print_function=lambda *_: None)
    evaluation.run()
    return [float(value) for value in evaluation.all_stats[:10]]


def ours(labels: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The same through featherpose: labels checked, results checked, scores."""
    scores = keypoint_ap(coco_labels.from_json(labels, "labels"), results)
    return [value for value in scores.to_dict().values() if value is not None]


def timed(run: Callable[..., list[float]], labels: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, Any]:
    """Seconds of a run on copies of its own, because faster-coco-eval writes into what it gets; and the scores."""
    labels = copy.deepcopy(labels)
    results = copy.deepcopy(results)
    gc.collect()
    start = time.perf_counter()
    scores = run(labels, results)
    return time.perf_counter() - start, scores


def measure(rounds: int) -> dict[str, Any]:
    """Number of rounds -> the facts."""
    rng = np.random.default_rng(0)
    labels = json.loads(json.dumps(make_labels(rng)))
    results = make_results(labels, rng)
    times: dict[str, list[float]] = {"bare": [], "featherpose": []}
    for _ in range(rounds):
        seconds_bare, expected = timed(bare, labels, results)
        seconds_ours, found = timed(ours, labels, results)
        assert found == expected, f"{found} differs from {expected}"
        times["bare"].append(seconds_bare)
        times["featherpose"].append(seconds_ours)
        print(f"faster-coco-eval {seconds_bare:.2f} s, featherpose {seconds_ours:.2f} s")
    return {
        "images": IMAGES,
        "persons": PERSONS,
        "predictions": PREDICTIONS,
        "rounds": rounds,
        "seconds": {name: round(float(np.median(values)), 3) for name, values in times.items()},
        "ratio": round(float(np.median(np.divide(times["featherpose"], times["bare"]))), 2),
        "machine": {"cpu": cpu_model(), "cores": available_threads(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("featherpose", "faster-coco-eval", "numpy")},
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = measure(options.rounds)
    print(json.dumps(facts))
    if options.out:
        files.replace(options.out, (json.dumps(facts, indent=1) + "\n").encode())
