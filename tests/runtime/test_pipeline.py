"""Detector and estimator, one after the other, on stand-ins: a red cell of 32 x 32 input pixels is a person."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import featherpose
from featherpose import images, weights
from featherpose.api import predict
from featherpose.errors import InputError, ModelError
from featherpose.poses import Poses
from featherpose.runtime.detector import Detector
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.models import check_finder
from featherpose.runtime.pipeline import TopDown, without_duplicates
from featherpose.size import Size
from featherpose.skeleton import COCO17
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

pytest.importorskip("onnx")

NO_PEOPLE = np.zeros((96, 96, 3), np.uint8)
Paint = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    return tiny_image_model(path, tiny_image_manifest("detector", long_side=96, conf=0.3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "pose.onnx")


@pytest.fixture(scope="module")
def top_down(detector: Path, model: Path) -> TopDown:
    return TopDown(Detector.open(detector, "cpu", 1), Estimator.open(model, "cpu", 1))


def image(height: int, width: int, *people: tuple[int, int, int, int], red: int = 255) -> np.ndarray:
    """Black image with red rectangles: left, top, right, bottom in pixels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in people:
        pixels[top:bottom, left:right, 0] = red
    return pixels


@pytest.mark.parametrize(
    ("pixels", "boxes"),
    [
        pytest.param(NO_PEOPLE, [], id="nobody"),
        pytest.param(image(1, 1), [], id="one black pixel"),
        pytest.param(image(96, 96, (32, 32, 64, 64)), [(32, 32, 63, 63)], id="one"),
        pytest.param(image(96, 96, (0, 0, 32, 32), (64, 64, 96, 96)), [(0, 0, 31, 31), (64, 64, 95, 95)], id="two"),
        pytest.param(image(80, 96, (32, 64, 64, 80)), [(32, 64, 63, 80)], id="cut by the lower border"),
        pytest.param(image(96, 80, (64, 32, 80, 64)), [(64, 32, 80, 63)], id="cut by the right border"),
        pytest.param(image(24, 24, (8, 8, 16, 16)), [(7.6, 7.6, 15.4, 15.4)], id="small"),
        pytest.param(image(1, 40_000, (0, 0, 14_000, 1)), [], id="one row: nobody, but no error"),
    ],
)
def test_people_are_found_inside_the_image(top_down: TopDown, pixels: np.ndarray, boxes: list[Any]) -> None:
    poses = top_down(pixels)
    assert type(poses) is Poses and poses.image_size == Size(height=pixels.shape[0], width=pixels.shape[1])
    pixel = max(1, max(pixels.shape) / 96)
    assert sorted(poses.boxes_xyxy.tolist()) == [pytest.approx(box, abs=pixel) for box in boxes]
    assert np.isfinite(poses.keypoints).all() and (poses.boxes_xyxy <= [*pixels.shape[1::-1]] * 2).all()


def test_pixel_may_be_a_person(top_down: TopDown) -> None:
    poses = top_down(image(1, 1, (0, 0, 1, 1)))
    assert len(poses) > 0 and np.isfinite(poses.keypoints).all()
    assert (poses.boxes_xyxy >= 0).all() and (poses.boxes_xyxy <= 1).all()


def test_image_of_108_megapixels(top_down: TopDown) -> None:
    person = (4000, 4000, 8000, 8000)
    poses = top_down(image(9_000, 12_000, person))
    assert len(poses) == 1 and poses.boxes_xyxy[0] == pytest.approx(person, abs=130)  # an input pixel is 125
    assert poses.keypoints[0, 0] == pytest.approx((4000, 4000), abs=400)  # a cell of the heatmap


def test_200_people_in_one_image(tmp_path: Path, model: Path) -> None:
    file = tiny_image_model(tmp_path / "d.onnx", tiny_image_manifest("detector", long_side=640))
    poses = TopDown(Detector.open(file, "cpu", 1), Estimator.open(model, "cpu", 1))(image(320, 640, (0, 0, 640, 320)))
    assert len(poses) == 200
    assert len(np.unique(poses.boxes_xyxy, axis=0)) == 200


def boxes_found(*rows: tuple[float, ...]) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Detector that finds the same in every image; rows of left, top, right, bottom, score."""
    found = np.array(rows, np.float32).reshape(-1, 5)
    return lambda _: (found[:, :4], found[:, 4])


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        pytest.param([], [], id="nobody"),
        pytest.param([(0, 0, 31, 31, 0.5), (64, 64, 95, 95, 0.9)], [0.9, 0.5], id="the best is first"),
        pytest.param([(0, 0, 31, 31, 0.5), (0, 0, 31, 31, 0.9)], [0.9], id="the same person twice"),
        pytest.param([(0, 0, 31, 31, 0.9), (0, 0, 31, 31.5, 0.9)], [0.9], id="nearly the same, equal scores"),
    ],
)
def test_duplicates_are_suppressed_best_first(model: Path, rows: list[Any], kept: list[float]) -> None:
    people = image(96, 96, (0, 0, 32, 32), (64, 64, 96, 96))
    poses = TopDown(boxes_found(*rows), Estimator.open(model, "cpu", 1))(people)
    assert poses.box_scores.tolist() == pytest.approx(kept)
    assert (np.diff(poses.person_scores) <= 0).all()


def test_person_score_decides_not_box_score(top_down: TopDown) -> None:
    """The second box has the lower score, but its keypoints are more certain."""
    half_red = image(96, 96, (0, 0, 32, 32), red=128) + image(96, 96, (64, 64, 96, 96))
    detect = boxes_found((0, 0, 31, 31, 0.9), (64, 64, 95, 95, 0.6))
    poses = TopDown(detect, top_down.estimator)(half_red)
    assert poses.box_scores.tolist() == pytest.approx([0.6, 0.9])


@pytest.mark.parametrize(
    ("sigmas", "distance", "number"),
    [
        pytest.param(COCO17.sigmas, 0, 1, id="same place"),
        pytest.param(COCO17.sigmas, 20, 2, id="elsewhere"),
        pytest.param((0.0,) * 17, 0, 1, id="no sigmas, same place"),
        pytest.param((0.0,) * 17, 20, 2, id="no sigmas, elsewhere"),
    ],
)
def test_duplicates_with_and_without_sigmas(sigmas: tuple[float, ...], distance: float, number: int) -> None:
    one = np.random.default_rng(1).uniform(10, 60, (17, 2))
    poses = Poses(
        keypoints=np.stack([one, one + distance]),
        scores=np.ones((2, 17)),
        boxes_xyxy=np.array([(0, 0, 60, 60), (distance, distance, 60 + distance, 60 + distance)]),
        box_scores=np.ones(2),
        skeleton=replace(COCO17, sigmas=sigmas),
        image_size=Size(height=100, width=100),
    )
    assert len(without_duplicates(poses)) == number


def test_many_images_give_the_same_as_each_alone(top_down: TopDown) -> None:
    cells = [(x, y, x + 32, y + 32) for x in (0, 32, 64) for y in (0, 64)]
    several = [image(96, 96, *cells[:number]) for number in (0, 1, 6, 0, 3, 6, 2)]
    together = list(top_down.estimate_all(iter(several)))
    assert [len(poses) for poses in together] == [0, 1, 6, 0, 3, 6, 2]
    for poses, pixels in zip(together, several, strict=True):
        alone = top_down(pixels)
        np.testing.assert_allclose(poses.keypoints, alone.keypoints, atol=1e-3)
        np.testing.assert_allclose(poses.person_scores, alone.person_scores, atol=1e-6)


def test_image_that_is_no_image_is_named_by_index(top_down: TopDown) -> None:
    gray = np.zeros((9, 9), np.uint8)
    with pytest.raises(InputError, match=r"^The image is uint8 \(9, 9\)"):
        top_down(gray)
    with pytest.raises(InputError, match=r"^Image 1: The image is uint8 \(9, 9\)"):
        list(top_down.estimate_all([NO_PEOPLE, gray]))


FINDER = {"boxes": None, "whole_image": False, "detector": "default", "conf": None, "max_people": None}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="default detector"),
        pytest.param({"detector": Path("default"), "conf": 0.5, "max_people": 3}, id="detector with options"),
        pytest.param({"boxes": []}, id="boxes in place of the default detector"),
        pytest.param({"boxes": [], "detector": None}, id="boxes without detector"),
        pytest.param({"whole_image": True}, id="whole image"),
    ],
)
def test_options_that_say_where_the_people_are(options: dict[str, Any]) -> None:
    check_finder(**FINDER | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"detector": None}, "give --detector FILE, --boxes FILE or --whole-image", id="none"),
        pytest.param({"detector": None, "conf": 0.5}, "Nothing says where the people are", id="conf alone"),
        pytest.param({"boxes": [], "whole_image": True}, "boxes and whole_image contradict each other", id="two"),
        pytest.param({"boxes": [], "detector": "d.onnx"}, "boxes and detector contradict", id="boxes, detector"),
        pytest.param({"whole_image": True, "detector": Path("default")}, "whole_image and detector", id="whole image"),
        pytest.param({"boxes": [], "conf": 0.0}, "boxes and conf contradict", id="boxes, conf"),
        pytest.param({"whole_image": True, "max_people": 1}, "whole_image and max_people", id="whole image, number"),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_finder(**FINDER | options)


def test_estimate_equals_estimate_all_and_predict(tmp_path: Path, detector: Path, model: Path) -> None:
    pixels = image(96, 96, (0, 0, 32, 32), (64, 64, 96, 96), (64, 0, 96, 32))
    path = tmp_path / "a.png"
    images.write(path, pixels)
    options: Any = {"detector": detector, "model": model, "device": "cpu"}
    sources = [pixels, path, path.read_bytes(), PillowImage.fromarray(pixels)]
    found = [
        *predict([path], out=tmp_path / "out", draw_images=False, **options).poses.values(),
        *(next(featherpose.estimate_all([source], **options)) for source in sources),
        *(featherpose.estimate(source, **options) for source in sources),
    ]
    assert len(found[0]) == 3
    for poses in found:
        assert poses.to_dict() == found[0].to_dict()
        assert np.array_equal(poses.keypoints, found[0].keypoints) and np.array_equal(poses.scores, found[0].scores)


def test_conf_and_max_people_reach_the_detector(detector: Path, model: Path) -> None:
    people = image(96, 96, (0, 0, 32, 32)) + image(96, 96, (64, 64, 96, 96), red=128)
    options: Any = {"detector": detector, "model": model, "device": "cpu"}
    assert featherpose.estimate(people, **options).box_scores.tolist() == pytest.approx([1, 0.5], abs=0.01)
    assert len(featherpose.estimate(people, conf=0.7, **options)) == 1
    assert len(featherpose.estimate(people, max_people=1, **options)) == 1


def test_swapped_model_files_are_named(detector: Path, model: Path) -> None:
    options: Any = {"whole_image": False, "device": "cpu"}
    with pytest.raises(ModelError, match=r"tiny is a model of kind pose, .* choose another --detector"):
        featherpose.estimate(NO_PEOPLE, detector=model, model=model, **options)
    with pytest.raises(ModelError, match=r"tiny_detector is a model of kind detector, .* choose another --model"):
        featherpose.estimate(NO_PEOPLE, detector=detector, model=detector, **options)


def test_missing_default_detector_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "DETECTORS", {"default": "none_shipped"})
    with pytest.raises(ModelError, match="ships no person detector; give --detector FILE, --boxes FILE or --whole-i"):
        featherpose.estimate(NO_PEOPLE)
