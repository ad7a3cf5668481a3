"""Contract tests that every person detector in the list must pass."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.codecs.boxes import points
from featherpose.errors import ModelError
from featherpose.networks import DETECTORS, create_detector
from featherpose.networks.checkpoints import load_weights, save_weights
from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.shipped import get_recipe
from featherpose.size import Size

pytestmark = pytest.mark.torch

SIZE = Size(height=64, width=96)


@pytest.fixture(scope="module", params=DETECTORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def detector(name):
    torch.manual_seed(0)
    return create_detector(name, 5)


def random_images(n=2, size=SIZE):
    return torch.randn(n, 3, *size.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_one_prediction_per_point(detector, n, mode):
    with torch.no_grad():
        raw = detector.train(mode)(random_images(n))
    num_points = len(points(SIZE, detector.strides)[0])
    shapes = [tuple(tensor.shape) for tensor in raw]
    assert shapes == [(n, num_points), (n, num_points, 4), (n, num_points, 5, 2), (n, num_points, 5)]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in raw)
    assert raw.distances.min() >= 0


def test_eval_output_is_independent_of_the_batch(detector):
    with torch.no_grad():
        together = detector.eval()(random_images())
        alone = detector(random_images()[1:])
    torch.testing.assert_close(together.distances[1:], alone.distances, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(together.logits[1:], alone.logits, rtol=1e-4, atol=1e-4)


def test_detect_only_gives_equal_boxes_without_keypoints(detector):
    with torch.no_grad():
        raw = detector.eval()(random_images())
        boxes = detector.detect_only(random_images())
    assert torch.equal(boxes.logits, raw.logits)
    assert torch.equal(boxes.distances, raw.distances)
    assert boxes.keypoints is boxes.visibility is None


def test_without_keypoints_there_is_no_branch(name):
    detector = create_detector(name, keypoints=False)
    assert not [name for name, _ in detector.named_parameters() if "keypoint" in name]
    assert detector.eval()(random_images()).keypoints is None


def test_every_parameter_gets_a_gradient(detector):
    detector.train().zero_grad()
    sum(tensor.square().mean() for tensor in detector(random_images(4))).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    matrices = [(n, p) for n, p in detector.named_parameters() if p.ndim > 1]
    assert [n for n, p in matrices if p.grad.abs().max() == 0] == []


def test_saved_and_loaded_weights_give_same_output(name, detector, tmp_path):
    save_weights(detector, tmp_path / "a.safetensors")
    other = create_detector(name, 5)
    load_weights(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        found, expected = other.eval()(random_images()), detector.eval()(random_images())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_recipe_trains_it(name):
    recipe = get_recipe(name)
    assert isinstance(recipe, DetectorRecipe)
    assert recipe.network == name


REFUSED = [
    ("", {}, "Unknown detector ''. Known: feather_detect."),
    ("feather_detec", {}, "Unknown detector 'feather_detec'. Did you mean 'feather_detect'?"),
    ("feather_detect", {"neck": 64}, "feather_detect has no option 'neck'. "),
    ("feather_detect", {"neck_channels": 24}, "neck_channels is 24; wanted a multiple of 16"),
    ("feather_detect", {"num_keypoints": 0}, "num_keypoints is 0; it must be at least 1."),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_wrong_names_and_options_are_refused(name, options, message):
    with pytest.raises(ModelError) as caught:
        create_detector(name, **options)
    assert str(caught.value).startswith(message)


def test_input_not_a_multiple_of_32_is_refused(detector):
    with pytest.raises(ModelError, match=r"The input is 64x100 .* for example 64x96"):
        detector(random_images(size=Size(height=64, width=100)))
