"""FeatherDetect: initial predictions, keypoints, counts, weights of the backbone from other files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose import weights
from featherpose.codecs.boxes import points
from featherpose.networks import create_detector, create_network
from featherpose.networks.checkpoints import load_pretrained
from featherpose.networks.counts import count_parameters
from featherpose.networks.feather_detect import STRIDES
from featherpose.size import Size
from featherpose.skeleton import COCO17

pytestmark = pytest.mark.torch

SIZE = Size(height=64, width=96)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("feather_detect", 5)


def random_images(n=2, size=SIZE):
    return torch.randn(n, 3, *size.shape, generator=torch.Generator().manual_seed(0))


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


def test_pose_weights_fill_the_whole_backbone(detector):
    """ImageNet weights as well: their names are translated to those of FeatherPose's backbone, which are the same."""
    report = load_pretrained(detector, weights.find("small", ".safetensors"), COCO17.keypoint_names)
    backbone = [name for name in detector.state_dict() if name.startswith("backbone.")]
    assert len(backbone) > 200
    assert sorted(report.loaded) == sorted(backbone)
