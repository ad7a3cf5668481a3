"""FeatherDetect: shapes, initial predictions, counts, weights of the backbone from other files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose import weights
from featherpose.codecs.boxes import points
from featherpose.errors import ModelError
from featherpose.networks import create_detector, create_network
from featherpose.networks.checkpoints import load_pretrained, load_weights, save_weights
from featherpose.networks.counts import count_parameters
from featherpose.networks.feather_detect import STRIDES
from featherpose.size import Size
from featherpose.skeleton import COCO17

pytestmark = pytest.mark.torch

SIZE = Size(height=64, width=96)
POINTS = 8 * 12 + 4 * 6 + 2 * 3


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("feather_detect", 5)


def random_images(n=2, size=SIZE):
    return torch.randn(n, 3, *size.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_one_prediction_per_point_of_three_maps(detector, n, mode):
    with torch.no_grad():
        raw = detector.train(mode)(random_images(n))
    shapes = [tuple(tensor.shape) for tensor in raw]
    assert shapes == [(n, POINTS), (n, POINTS, 4), (n, POINTS, 5, 2), (n, POINTS, 5)]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in raw)
    assert raw.distances.min() >= 0


def test_detect_only_gives_equal_boxes_without_keypoints(detector):
    with torch.no_grad():
        raw = detector.eval()(random_images())
        boxes = detector.detect_only(random_images())
    assert torch.equal(boxes.logits, raw.logits)
    assert torch.equal(boxes.distances, raw.distances)
    assert boxes.keypoints is boxes.visibility is None


def test_without_keypoints_there_is_no_branch():
    detector = create_detector("feather_detect", keypoints=False)
    assert not [name for name, _ in detector.named_parameters() if "keypoint" in name]
    assert detector.eval()(random_images()).keypoints is None


def test_initial_scores_and_boxes_are_as_documented(detector):
    with torch.no_grad():
        raw = detector.train()(random_images())
    strides = points(SIZE, STRIDES)[1]
    assert 0.008 < raw.logits.sigmoid().mean() < 0.012
    widths = (raw.distances[..., 0] + raw.distances[..., 2]) / torch.from_numpy(strides)
    assert 2.5 < widths.mean() < 2.8
    assert 0 < widths.std() < 0.2


def test_zero_offset_puts_keypoints_at_codec_points(detector):
    with torch.no_grad():
        detector.keypoint_branch.offsets.weight.zero_()
        keypoints = detector.eval()(random_images(1)).keypoints[0]
        expected, strides = points(SIZE, detector.strides)
        np.testing.assert_array_equal(keypoints, np.repeat(expected[:, None], 5, axis=1))
        detector.keypoint_branch.offsets.bias.fill_(1)
        moved = detector(random_images(1)).keypoints[0]
        detector.keypoint_branch.offsets.reset_parameters()
    np.testing.assert_array_equal(moved[:, 2, 1], expected[:, 1] + strides)


def test_every_parameter_gets_a_gradient(detector):
    detector.train().zero_grad()
    sum(tensor.square().mean() for tensor in detector(random_images(4))).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    matrices = [(n, p) for n, p in detector.named_parameters() if p.ndim > 1]
    assert [n for n, p in matrices if p.grad.abs().max() == 0] == []


def test_levels_share_convolutions_but_not_norms(detector):
    names = [name for name, _ in detector.box_head.named_parameters()]
    assert len([name for name in names if "_conv" in name]) == 2 * 2
    assert len([name for name in names if "_norms" in name]) == 2 * 2 * 3 * 2  # layers, norms, levels, weight and bias


def test_parameter_count_is_backbone_neck_and_heads():
    """For width c: three laterals and smoothing layers, two layers per head with norms for three levels."""
    c = 64
    neck = (40 + 112 + 192) * c + 3 * 2 * c + 3 * ((9 + 2) * c + (c + 2) * c)
    layers = 2 * ((9 + 3 * 2) * c + (c + 3 * 2) * c)
    box_head = layers + 5 * (c + 1) + 3
    keypoint_branch = layers + 3 * 17 * (c + 1)
    backbone = count_parameters(create_network("feather_pose").backbone)
    assert count_parameters(create_detector("feather_detect")) == backbone + neck + box_head + keypoint_branch
    assert count_parameters(create_detector("feather_detect", keypoints=False)) == backbone + neck + box_head


def test_saved_and_loaded_weights_give_same_output(detector, tmp_path):
    save_weights(detector, tmp_path / "a.safetensors")
    other = create_detector("feather_detect", 5)
    load_weights(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        found, expected = other.eval()(random_images()), detector.eval()(random_images())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_pose_weights_fill_the_whole_backbone(detector):
    """ImageNet weights as well: their names are translated to those of FeatherPose's backbone, which are the same."""
    report = load_pretrained(detector, weights.find("small", ".safetensors"), COCO17.keypoint_names)
    backbone = [name for name in detector.state_dict() if name.startswith("backbone.")]
    assert len(backbone) > 200
    assert sorted(report.loaded) == sorted(backbone)


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
