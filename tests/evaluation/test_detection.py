"""Detection scores: hand-made cases, and the same AP as COCO's evaluation on random boxes."""

import numpy as np
import pytest

from featherpose.evaluation.coco import bbox_ap
from featherpose.evaluation.detection import (
    ImageDetections,
    detection_scores,
    recall_at_false_boxes,
    score_at_precision,
)
from featherpose.formats import coco_labels

BOX = [10.0, 10.0, 50.0, 90.0]
AWAY = [60.0, 10.0, 95.0, 90.0]
SMALL = [10.0, 10.0, 20.0, 25.0]


def image(boxes: list[list[float]], scores: list[float], labels: list[list[float]], ignored: tuple[int, ...] = ()):
    return ImageDetections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels_xyxy=np.array(labels, np.float32).reshape(-1, 4),
        ignored=np.isin(np.arange(len(labels)), ignored),
        height=100.0,
    )


@pytest.mark.parametrize(
    ("found", "ap50", "recall"),
    [
        ([image([], [], [])], np.nan, np.nan),
        ([image([], [], [BOX])], 0.0, 0.0),
        ([image([BOX], [0.9], [BOX])], 1.0, 1.0),
        ([image([BOX, BOX], [0.9, 0.8], [BOX])], 1.0, 1.0),
        ([image([AWAY, BOX], [0.9, 0.8], [BOX])], 0.5, 1.0),
        ([image([AWAY, BOX], [0.9, 0.8], [BOX, AWAY], ignored=(1,))], 1.0, 1.0),
        ([image([SMALL], [0.9], [SMALL])], 1.0, np.nan),
        ([image([BOX], [0.5], []), image([AWAY, BOX], [0.9, 0.4], [BOX])], 1 / 3, 1.0),
        ([image([BOX, AWAY], [0.5, 0.6], []), image([AWAY, BOX], [0.9, 0.4], [BOX])], 1 / 4, 0.0),
    ],
    ids=["empty", "missed", "found", "duplicate", "false box", "ignored", "small", "one false each", "two false"],
)
def test_scores_of_hand_made_images(found: list[ImageDetections], ap50: float, recall: float) -> None:
    scores = detection_scores(found)
    assert scores.ap50 == pytest.approx(ap50, abs=1e-6, nan_ok=True)
    assert scores.recall == pytest.approx(recall, nan_ok=True)


RIGHT = image([BOX], [0.8], [BOX])
WRONG_ABOVE = image([AWAY], [0.9], [])
WRONG_BELOW = image([AWAY], [0.6], [])
RIGHT_BELOW = image([BOX], [0.4], [BOX])


@pytest.mark.parametrize(
    ("found", "score"),
    [
        pytest.param([image([], [], [])], np.nan, id="no boxes"),
        pytest.param([WRONG_ABOVE] * 9, np.nan, id="none right"),
        pytest.param([RIGHT] * 3, np.nan, id="too few"),
        pytest.param([RIGHT] * 4, 0.8, id="all right"),
        pytest.param([WRONG_ABOVE, *[RIGHT] * 9], 0.8, id="9 of 10 right, the best wrong"),
        pytest.param([WRONG_ABOVE, *[RIGHT] * 8], np.nan, id="8 of 9 right"),
        pytest.param([*[RIGHT] * 9, *[WRONG_BELOW] * 2], 0.8, id="equal scores are in or out together"),
        pytest.param([*[RIGHT] * 9, *[WRONG_BELOW] * 2, *[RIGHT_BELOW] * 9], 0.4, id="the lowest of two"),
        pytest.param([image([BOX, BOX], [0.8, 0.7], [BOX])] * 4, 0.8, id="a person's second box is wrong"),
        pytest.param([image([BOX, AWAY], [0.8, 0.7], [BOX, AWAY], (1,))] * 4, 0.8, id="a crowd does not count"),
        pytest.param([*[RIGHT] * 4, image([[10.0, 30.0, 50.0, 110.0]], [0.5], [BOX])], 0.5, id="IoU 0.6"),
        pytest.param([*[RIGHT] * 4, image([[10.0, 40.0, 50.0, 120.0]], [0.5], [BOX])], 0.8, id="IoU 0.45"),
    ],
)
def test_score_at_which_most_boxes_are_right(found: list[ImageDetections], score: float) -> None:
    assert score_at_precision(found, 0.9, min_boxes=4) == pytest.approx(score, nan_ok=True)


def test_recall_counts_tall_people_only() -> None:
    found = [image([BOX], [0.9], [BOX, SMALL])]
    assert recall_at_false_boxes(found, 1.0) == 1.0
    assert recall_at_false_boxes(found, 1.0, min_height=0.1) == 0.5


def test_ap_equals_that_of_coco() -> None:
    pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(0)
    found: list[ImageDetections] = []
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for number in range(30):
        low = rng.uniform(0, 70, (6, 2))
        labels = np.concatenate([low, low + rng.uniform(8, 30, (6, 2))], 1).astype(np.float32)
        boxes = (np.tile(labels, (2, 1)) + rng.normal(0, 2.5, (12, 4))).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.permutation(12 * 30)[:12].astype(np.float32) / 360 + number * 1e-6
        ignored = np.arange(6) == 5
        found.append(ImageDetections(boxes, scores.astype(np.float32), labels, ignored, 100.0))
        annotations += [
            {"id": 6 * number + row + 1, "image_id": number, "category_id": 1, "iscrowd": int(ignored[row])}
            | {"bbox": _xywh(label), "area": float(np.prod(label[2:] - label[:2]))}
            for row, label in enumerate(labels)
        ]
        results += [
            {"image_id": number, "category_id": 1, "bbox": _xywh(box), "score": float(score)}
            for box, score in zip(boxes, scores.astype(np.float32), strict=True)
        ]
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100} for number in range(30)]
    categories = [{"id": 1, "name": "person", "keypoints": ["head"]}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    theirs = bbox_ap(coco_labels.from_json(truth, "truth"), results)
    ours = detection_scores(found)
    assert 0.1 < theirs.ap < 0.9
    assert (ours.ap, ours.ap50) == pytest.approx((theirs.ap, theirs.ap50), abs=1e-4)


def _xywh(box: np.ndarray) -> list[float]:
    return [float(value) for value in (*box[:2], *(box[2:] - box[:2]))]
