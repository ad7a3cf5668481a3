"""Person detection on a stand-in that sees a person in each red cell of 32 x 32 input pixels."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError, ModelError
from featherpose.letterbox import Fit
from featherpose.runtime.detector import Detector
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "d.onnx"
    return tiny_image_model(path, tiny_image_manifest("detector", long_side=96, conf=0.3))


def image(height: int, width: int, *cells: tuple[int, int, int, int]) -> np.ndarray:
    """Black image with red rectangles: left, top, right, bottom in pixels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in cells:
        pixels[top:bottom, left:right, 0] = 255
    return pixels


def test_nobody_gives_no_box(model: Path) -> None:
    boxes, scores = Detector.open(model, "cpu")(image(100, 200))
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))
    assert boxes.dtype == scores.dtype == np.float32


@pytest.mark.parametrize(
    ("height", "width", "person"),
    [
        (96, 96, (32, 32, 64, 64)),
        (192, 192, (64, 0, 128, 64)),
        (192, 96, (0, 128, 64, 192)),
        (48, 96, (32, 0, 64, 32)),
        (24, 48, (16, 0, 32, 16)),
    ],
    ids=["same size", "half", "portrait, padded", "padded below", "enlarged"],
)
def test_boxes_are_in_image_pixels(model: Path, height: int, width: int, person: tuple[int, ...]) -> None:
    boxes, scores = Detector.open(model, "cpu")(image(height, width, person))
    assert len(scores) == 1
    pixel = max(height, width) / 96  # image pixels per input pixel
    assert boxes[0] == pytest.approx(person, abs=pixel + 0.5)


FITS = [
    Fit(shape="square"),
    Fit(shape="square", place="center"),
    Fit(shape="stretch", interpolation="linear"),
    Fit(shape="square", points="corners", rounding="down", border=0),
]


@pytest.mark.parametrize("fit", FITS, ids=["square", "center", "stretch", "corners"])
@pytest.mark.parametrize(("height", "width", "person"), [(96, 192, (64, 0, 128, 64)), (192, 96, (0, 128, 64, 192))])
def test_letterbox_of_the_manifest_is_used(fit: Fit, height: int, width: int, person: tuple[int, ...], tmp_path: Path):
    """The stand-in sees cells of 32 x 32, so that a box is known to a cell where the image is placed elsewhere."""
    manifest = tiny_image_manifest("detector", long_side=192, conf=0.3, letterbox=fit)
    model = tiny_image_model(tmp_path / "d.onnx", manifest)
    boxes, _ = Detector.open(model, "cpu")(image(height, width, person))
    around = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    assert around == pytest.approx(person, abs=17)


def test_confidence_and_number_are_limited(model: Path) -> None:
    people = image(96, 96, (0, 0, 32, 32), (64, 64, 96, 96))
    people[64:, 64:] = people[64:, 64:] // 2
    assert Detector.open(model, "cpu")(people)[1].tolist() == pytest.approx([1, 0.5], abs=0.01)
    assert len(Detector.open(model, "cpu", conf=0.7)(people)[1]) == 1
    assert len(Detector.open(model, "cpu", max_people=1)(people)[1]) == 1
    assert len(Detector.open(model, "cpu", conf=1)(people)[1]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf": 1.5}, "conf is 1.5, wanted a score from 0 to 1"),
        ({"max_people": 0}, "max_people is 0"),
        ({"long_side": 0}, "long_side is 0"),
    ],
)
def test_bad_options_are_refused(model: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector.open(model, "cpu", **options)


def test_pose_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tiny is a model of kind pose, wanted one of kind detector"):
        Detector.open(tiny_model(tmp_path / "pose.onnx"), "cpu")
