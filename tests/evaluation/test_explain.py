"""Mistakes planted in data and results are named; results that are merely bad are not explained away."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.coco import read_coco
from featherpose.evaluation.explain import explain
from featherpose.formats import coco_labels
from featherpose.records import Labels
from featherpose.skeleton import COCO17
from tests.evaluation.folders import SAMPLES, person, write_folder

WIDTH = 640
BODY = np.random.default_rng(5).uniform(0, 1, (17, 2))
"""Keypoints of a body in its box, alike in all persons, as real ones are."""
FLIP = COCO17.flip_order


def people() -> list[dict]:
    """Thirty persons in ten images, a tenth of the keypoints not labeled."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(30):
        left, top = rng.uniform(0, 500), rng.uniform(0, 200)
        keypoints = np.full((17, 3), 2.0)
        keypoints[:, :2] = (left, top) + BODY * (100, 200) + rng.normal(0, 4, (17, 2))
        keypoints[rng.random(17) < 0.1] = 0
        box = (float(left), float(top), 100.0, 200.0)
        found.append(person(number, number % 10, box, keypoints=keypoints.ravel().tolist()))
    return found


PEOPLE = people()


def labels() -> Labels:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": 480} for number in range(10)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    return coco_labels.from_json({"images": images, "annotations": PEOPLE, "categories": [category]}, "people")


def warnings(change: Callable[[np.ndarray, list[float]], np.ndarray]) -> list[str]:
    """What is said about predictions (17, 3) that are the labels with an error of 4 px, changed by a function."""
    rng = np.random.default_rng(2)
    results = []
    for annotation in PEOPLE:
        keypoints = np.reshape(annotation["keypoints"], (17, 3)).copy()
        missing = keypoints[:, 2] == 0
        keypoints[missing, :2] = (annotation["bbox"][:2] + BODY * (100, 200))[missing]
        keypoints[:, :2] += rng.normal(0, 4, (17, 2))
        changed = change(keypoints, annotation["bbox"])
        results.append({"image_id": annotation["image_id"], "keypoints": changed.ravel().tolist(), "score": 1.0})
    data = labels()
    return list(explain(data, data.usable()[0], results))


def in_image(keypoints: np.ndarray) -> np.ndarray:
    return np.column_stack([WIDTH - 1 - keypoints[:, 0], keypoints[:, 1:]])


def in_box(keypoints: np.ndarray, box: list[float]) -> np.ndarray:
    return np.column_stack([2 * box[0] + box[2] - keypoints[:, 0], keypoints[:, 1:]])


ANKLES = [*range(15), 16, 15]
PLANTED = {
    "mirrored in the image": (lambda k, box: in_image(k), "from the other side of the image (median"),
    "flipped image": (lambda k, box: in_image(k)[FLIP], "of the image and their left and right exchanged (median"),
    "mirrored in the box": (lambda k, box: in_box(k, box), "from the other side of the box (median"),
    "flipped crop": (lambda k, box: in_box(k, box)[FLIP], "of the box and their left and right exchanged (median"),
    "left and right": (lambda k, box: k[FLIP], "permuted: left and right are exchanged in 16 keypoints"),
    "ankles": (lambda k, box: k[ANKLES], "permuted: left and right are exchanged in 2 keypoints"),
    "other order": (
        lambda k, box: np.roll(k, 1, axis=0),
        "permuted: predicted nose lies on right_ankle, left_eye lies on nose, right_eye lies on left_eye, ... (17)",
    ),
}


@pytest.mark.parametrize(("change", "words"), PLANTED.values(), ids=PLANTED)
def test_planted_mistake_is_named(change: Callable, words: str) -> None:
    (sentence,) = warnings(change)
    assert words in sentence


def noise(pixels: float) -> Callable:
    rng = np.random.default_rng(3)
    return lambda k, box: k + rng.normal(0, pixels, (17, 3))


CLEAN = {
    "right": lambda k, box: k,
    "rough": noise(20),
    "useless": noise(200),
    "all keypoints in the middle": lambda k, box: np.broadcast_to(k.mean(axis=0), (17, 3)),
    "shifted": lambda k, box: np.add(k, (40, 0, 0)),
    "elsewhere": lambda k, box: np.add(k, (900, 0, 0)),
}


@pytest.mark.parametrize("change", CLEAN.values(), ids=CLEAN)
def test_poses_without_such_a_mistake_cause_no_warning(change: Callable) -> None:
    assert warnings(change) == []


def test_nothing_found_causes_no_warning() -> None:
    data = labels()
    assert list(explain(data, data.usable()[0], [])) == []


def test_implausible_sigmas_give_warning() -> None:
    data = labels()
    results = [
        {"image_id": p["image_id"], "keypoints": np.add(p["keypoints"], 2).tolist(), "score": 1.0} for p in PEOPLE
    ]
    small = replace(COCO17, sigmas=tuple(np.divide(COCO17.sigmas, 100).tolist()))
    (sentence,) = explain(replace(data, skeleton=small), data.usable()[0], results)
    assert "area (too small) or sigmas look wrong" in sentence


def test_boxes_with_two_corners_are_named(tmp_path: Path) -> None:
    corners = [{**p, "bbox": [p["bbox"][0], p["bbox"][1], 315, 235]} for p in SAMPLES[:3]]
    assert read_coco(write_folder(tmp_path / "right", SAMPLES[:3])).warnings() == []
    (sentence,) = read_coco(write_folder(tmp_path / "corners", corners)).warnings()
    assert "3 of 3 boxes reach beyond their image: left, top, right, bottom in place of left, top, width" in sentence
