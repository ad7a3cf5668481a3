"""Small labeled data sets in COCO's format, and a predictor that returns their annotations."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featherpose import images
from featherpose.boxes import xyxy_to_xywh
from featherpose.evaluation.prediction import ImageWithBoxes, Predict
from featherpose.poses import Poses
from featherpose.records import Labels
from featherpose.size import Size
from featherpose.skeleton import COCO17, Skeleton

SIZE = Size(height=240, width=320)


def person(number: int, image: int, box: tuple[float, float, float, float], **changes: Any) -> dict[str, Any]:
    """An annotated person with keypoints on the box's diagonal."""
    left, top, width, height = box
    steps = np.linspace(0, 1, 17)
    keypoints = np.column_stack([left + width * steps, top + height * steps, np.full(17, 2.0)])
    return {
        **{"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": list(box)},
        **{"area": 0.6 * width * height, "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17},
        **changes,
    }


UNLABELED = {"keypoints": [0] * 51, "num_keypoints": 0}
SAMPLES = [
    person(1, 5, (10, 20, 60, 100)),
    person(2, 5, (150, 30, 120, 180)),
    person(3, 7, (40, 10, 100, 200)),
    person(4, 7, (200, 10, 100, 200), iscrowd=1),
    person(5, 7, (0, 0, 30, 30), **UNLABELED),
    person(6, 8, (0, 0, 300, 200), **UNLABELED),
]
"""Image 5: two persons. 7: one, a crowd and one without keypoints. 8: one without keypoints. 9: no person."""


def write_folder(root: Path, annotations: list[dict[str, Any]] = SAMPLES, skeleton: Skeleton = COCO17) -> Path:
    """Images 5, 7, 8 and 9 of 240x320 gray pixels and person_keypoints.json."""
    names = {image: f"photo-{image}.png" for image in (5, 7, 8, 9)}
    (root / "images").mkdir(parents=True)
    for name in names.values():
        images.write(root / "images" / name, np.full((*SIZE.shape, 3), 128, np.uint8))
    image_records = [
        {"id": i, "file_name": name, "width": SIZE.width, "height": SIZE.height} for i, name in names.items()
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoint_names)}]
    truth = {"images": image_records, "annotations": annotations, "categories": categories}
    (root / "person_keypoints.json").write_text(json.dumps(truth))
    return root


def one_by_one(predict: Callable[[np.ndarray, np.ndarray], Poses]) -> Predict:
    """A function from an image and boxes to Poses -> one for many images."""

    def predict_all(requests: Iterable[ImageWithBoxes], /) -> Iterator[tuple[ImageWithBoxes, Poses]]:
        for request in requests:
            poses = predict(request.image, request.boxes)
            kept = len(poses) == len(request.scores)
            yield request, replace(poses, box_scores=request.scores) if kept else poses

    return predict_all


def lookup_predictor(
    labels: Labels, modify: Callable[[np.ndarray], np.ndarray] = lambda keypoints: keypoints
) -> Callable:
    """A predictor that returns the annotated keypoints of the nearest box, changed by a given function."""
    known = [person for person in labels.persons if person.box_xywh is not None]
    answers = {tuple(person.box_xywh): person.keypoints for person in known}

    def predict(image: np.ndarray, boxes_xyxy: np.ndarray) -> Poses:
        boxes = xyxy_to_xywh(boxes_xyxy)
        nearest = [min(answers, key=lambda known, box=box: np.abs(np.subtract(known, box)).sum()) for box in boxes]
        keypoints = np.array([modify(answers[box][:, :2]) for box in nearest]).reshape(-1, 17, 2)
        ones = np.ones(len(boxes))
        return Poses(
            keypoints,
            np.ones(keypoints.shape[:2]),
            boxes_xyxy,
            ones,
            COCO17,
            Size(height=image.shape[0], width=image.shape[1]),
        )

    return predict
