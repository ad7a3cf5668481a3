"""Evaluation of a person detector: labels as detections, missing and false boxes, images that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")
from featherpose.boxes import xywh_to_xyxy
from featherpose.data.coco import read_coco
from featherpose.data.dataset import Dataset
from featherpose.errors import DataError
from featherpose.evaluation.detector import Detect, evaluate_detector
from tests.evaluation.folders import SAMPLES, write_folder

PEOPLE = {
    5: [SAMPLES[0]["bbox"], SAMPLES[1]["bbox"]],
    7: [SAMPLES[2]["bbox"], SAMPLES[4]["bbox"]],
    8: [SAMPLES[5]["bbox"]],
}
FALSE = [200.0, 100.0, 40.0, 90.0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_coco(write_folder(tmp_path_factory.mktemp("detections") / "data"))


def answers(change: Callable[[int, list[list[float]]], list[list[float]]]) -> Detect:
    """A detector that is called on the images in order and returns the labeled boxes, changed by a given function."""
    numbers = iter((5, 7, 8, 9))

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = next(numbers)
        boxes = change(number, PEOPLE.get(number, []))
        scores = 0.9 - 0.1 * np.arange(len(boxes), dtype=np.float32)
        return xywh_to_xyxy(np.reshape(boxes, (-1, 4))), scores

    return detect


@pytest.mark.parametrize(
    ("change", "ap", "recall", "false_boxes"),
    [
        (lambda number, boxes: [], 0, 0, 0),
        (lambda number, boxes: boxes, 1, 1, 0),
        (lambda number, boxes: [*boxes, FALSE] if number == 9 else boxes, 0.934, 1, 1),
        (lambda number, boxes: boxes[:1], 0.6, 0.75, 0),
    ],
    ids=["nothing found", "labels", "false box where nobody is", "one person per image"],
)
def test_scores_of_known_detections(
    dataset: Dataset, change: Callable[..., list[list[float]]], ap: float, recall: float, false_boxes: float
) -> None:
    evaluation = evaluate_detector(dataset, answers(change), conf=0.3)
    scores = evaluation.scores
    assert scores.ap == pytest.approx(ap, abs=0.01)
    assert scores.false_boxes == false_boxes
    assert scores.recall == pytest.approx(recall, abs=0.01)
    assert evaluation.num_images == 4


def test_crowd_is_neither_found_nor_missed(dataset: Dataset) -> None:
    crowd = SAMPLES[3]["bbox"]
    found = evaluate_detector(dataset, answers(lambda number, boxes: [crowd, *boxes] if number == 7 else boxes), 0.3)
    assert found.scores.ap == pytest.approx(1)


def test_unreadable_image_is_listed_and_missed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    (folder / "images" / "photo-5.png").write_bytes(b"no image")
    numbers = iter((7, 8, 9))

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = PEOPLE.get(next(numbers), [])
        return xywh_to_xyxy(np.reshape(boxes, (-1, 4))), np.full(len(boxes), 0.9, np.float32)

    evaluation = evaluate_detector(read_coco(folder), detect, 0.3)
    assert [line.count("photo-5.png") for line in evaluation.broken] == [1]
    assert evaluation.scores.ap == pytest.approx(0.6, abs=0.01)
    assert evaluation.by_image is not None
    for drawn, ap in (([0, 0, 1, 1], 0.5), ([1, 1, 1, 1], 1)):
        assert evaluation.by_image.scores(np.array(drawn)).ap == pytest.approx(ap, abs=0.01)


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    for image in (folder / "images").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 4 images could be used"):
        evaluate_detector(read_coco(folder), lambda image: pytest.fail("called"), 0.3)
