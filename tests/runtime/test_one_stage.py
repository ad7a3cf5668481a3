"""One-stage pose estimation on a stand-in that sees a person in each red cell of 32 x 32 input pixels."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError, ModelError
from featherpose.runtime.one_stage import OneStage
from featherpose.skeleton import COCO17
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


def test_wrong_models_images_and_options_are_refused(model: Path, tmp_path: Path) -> None:
    detector = tiny_image_model(tmp_path / "d.onnx", tiny_image_manifest("detector"))
    with pytest.raises(ModelError, match="is a model of kind detector, wanted one of kind poses"):
        OneStage.open(detector, "cpu")
    with pytest.raises(InputError, match="Image 1: The image is float64"):
        list(OneStage.open(model, "cpu").estimate_all([image(8, 8), np.zeros((8, 8, 3))]))
    for options in ({"conf": 2.0}, {"max_people": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is"):
            OneStage.open(model, "cpu", **options)
