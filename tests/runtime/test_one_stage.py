"""One-stage pose estimation on a stand-in that sees a person in each red cell of 32 x 32 input pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featherpose
from featherpose import images
from featherpose.errors import InputError, ModelError
from featherpose.runtime.one_stage import OneStage
from featherpose.skeleton import COCO17, Skeleton
from tests.tiny_model import tiny_image_manifest, tiny_image_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("poses") / "p.onnx"
    return tiny_image_model(path, tiny_image_manifest("poses", long_side=96, conf=0.3))


def image(height: int, width: int, *spots: tuple[int, int, int, int, int]) -> np.ndarray:
    """Black image with rectangles: left, top, right, bottom in pixels, and how red."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom, red in spots:
        pixels[top:bottom, left:right, 0] = red
    return pixels


def test_nobody_gives_no_poses(model: Path) -> None:
    poses = OneStage.open(model, "cpu")(image(100, 200))
    assert len(poses) == 0
    assert (poses.skeleton, poses.image_size.shape) == (COCO17, (100, 200))


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_points_are_in_image_pixels(model: Path, factor: int) -> None:
    poses = OneStage.open(model, "cpu")(
        image(96 * factor, 64 * factor, (32 * factor, 0, 64 * factor, 32 * factor, 255))
    )
    assert poses.boxes_xyxy == pytest.approx(np.array([[32, 0, 64, 32]]) * factor, abs=factor)
    assert poses.keypoints[0] == pytest.approx(np.tile([48 * factor, 16 * factor], (17, 1)), abs=factor)
    assert poses.box_scores[0] == pytest.approx(1, abs=0.02)


def test_best_people_come_first(model: Path) -> None:
    pixels = image(96, 96, (0, 0, 32, 32, 120), (64, 0, 96, 32, 255), (0, 64, 32, 96, 200))
    poses = OneStage.open(model, "cpu")(pixels)
    assert poses.boxes_xyxy[:, :2].round().tolist() == [[64, 0], [0, 64], [0, 0]]
    assert len(OneStage.open(model, "cpu", conf=0.6)(pixels)) == 2
    assert len(OneStage.open(model, "cpu", max_people=1)(pixels)) == 1
    (again,) = OneStage.open(model, "cpu").estimate_all([pixels])
    assert np.array_equal(again.keypoints, poses.keypoints)


def test_predict_and_estimate_use_it_as_model(model: Path, tmp_path: Path) -> None:
    """No detector is needed; the files that the command writes hold the poses of `estimate`."""
    pixels = image(96, 96, (0, 0, 32, 32, 255), (64, 64, 96, 96, 255))
    images.write(tmp_path / "two.png", pixels)
    found = featherpose.estimate(pixels, model=model, device="cpu")
    report = featherpose.predict([tmp_path / "two.png"], model=model, out=tmp_path / "out", device="cpu")
    assert len(found) == 2
    assert np.array_equal(report.poses["two.png"].keypoints, found.keypoints)
    assert (report.detector, report.conf) == (None, 0.3)
    assert json.loads(report.json_file.read_text())["model"] == "tiny_poses"


def test_evaluate_searches_all_images(model: Path, tmp_path: Path) -> None:
    """Of two people one is found, and one where nobody is; the keypoints are those of a larger skeleton, by name."""
    pytest.importorskip("faster_coco_eval")
    limbs = Skeleton.from_names("limbs", COCO17.keypoint_names[5:])
    centers = [16, 16, 2] * limbs.num_keypoints
    boxes = {1: [[0, 0, 32, 32], [64, 64, 32, 32]], 2: []}
    annotations = [
        {"image_id": number, "category_id": 1, "bbox": box, "area": 500, "iscrowd": 0, "keypoints": centers}
        for number, found in boxes.items()
        for box in found
    ]
    annotations[1]["keypoints"] = [80, 80, 2] * limbs.num_keypoints
    sizes = {"width": 96, "height": 96}
    document = {
        "images": [{"id": number, "file_name": f"{number}.png", **sizes} for number in boxes],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(limbs.keypoint_names)}],
    }
    (tmp_path / "images").mkdir()
    images.write(tmp_path / "images/1.png", image(96, 96, (0, 0, 32, 32, 255)))
    images.write(tmp_path / "images/2.png", image(96, 96, (0, 64, 32, 96, 200)))
    (tmp_path / "person_keypoints.json").write_text(json.dumps(document))
    evaluation = featherpose.evaluate(model, tmp_path, device="cpu", intervals=True)
    assert (evaluation.num_images, evaluation.num_instances) == (2, 2)
    assert evaluation.scores.to_dict()["ap50"] == pytest.approx(0.5, abs=0.01)
    for options in ({"boxes": "detector"}, {"flip_test": True}, {"padding": 1.0}):
        with pytest.raises(InputError, match=f"is a one-stage model, evaluated without {next(iter(options))}"):
            featherpose.evaluate(model, tmp_path, device="cpu", **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"boxes": {"two.png": []}}, "boxes"),
        ({"whole_image": True}, "whole_image"),
        ({"detector": "d.onnx"}, "detector"),
        ({"refine": True}, "refine"),
        ({"flip_test": True}, "flip_test"),
    ],
)
def test_options_of_two_stages_are_refused(model: Path, tmp_path: Path, options: dict[str, Any], named: str) -> None:
    images.write(tmp_path / "two.png", image(96, 96))
    with pytest.raises(InputError, match=f"finds people and poses in one stage, without .*{named}.*; leave it out"):
        featherpose.predict([tmp_path / "two.png"], model=model, out=tmp_path / "out", **options)


def test_wrong_models_images_and_options_are_refused(model: Path, tmp_path: Path) -> None:
    detector = tiny_image_model(tmp_path / "d.onnx", tiny_image_manifest("detector"))
    with pytest.raises(ModelError, match="is a model of kind detector, wanted one of kind poses"):
        OneStage.open(detector, "cpu")
    with pytest.raises(InputError, match="Image 1: The image is float64"):
        list(OneStage.open(model, "cpu").estimate_all([image(8, 8), np.zeros((8, 8, 3))]))
    for options in ({"conf": 2.0}, {"max_people": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is"):
            OneStage.open(model, "cpu", **options)
