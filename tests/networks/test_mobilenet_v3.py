"""MobileNetV3: counts, strides, gates, initialization."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.counts import count_parameters
from featherpose.networks.mobilenet_v3 import SqueezeExcitation

pytestmark = pytest.mark.torch

# torchvision: 2,542,856 parameters (small) and 5,483,032 (large) with a classifier of two linear layers
# (https://pytorch.org/vision/stable/models/mobilenetv3.html); timm's mobilenetv3_*_100 have as many.
SMALL = 2_542_856 - (576 * 1024 + 1024 + 1024 * 1000 + 1000)
LARGE = 5_483_032 - (960 * 1280 + 1280 + 1280 * 1000 + 1000)
COUNTS = [("mobilenet_v3_small", SMALL, 4_462_353), ("mobilenet_v3_large", LARGE, 6_035_217)]


@pytest.mark.parametrize(("name", "backbone", "head"), COUNTS)
def test_parameter_count(name, backbone, head):
    with torch.device("meta"):
        model = create_network(name)
    assert count_parameters(model.backbone) == backbone
    assert count_parameters(model) == backbone + head


@pytest.mark.parametrize(
    ("name", "halving"), [("mobilenet_v3_small", [0, 1, 2, 4, 9]), ("mobilenet_v3_large", [0, 2, 4, 7, 13])]
)
def test_positions_of_stride_2_blocks(name, halving):
    backbone = create_network(name).backbone.eval()
    heights = [64]
    for layer in backbone:
        layer.register_forward_hook(lambda _m, _i, out: heights.append(out.shape[2]))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 32))
    assert [i for i, (before, after) in enumerate(itertools.pairwise(heights)) if after < before] == halving
    assert heights[-1] == 2


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("mobilenet_v3_small", [8, 24, 64, 64, 32, 40, 72, 144, 144]),
        ("mobilenet_v3_large", [24, 32, 32, 120, 168, 168, 240, 240]),
    ],
)
def test_squeeze_channels_are_multiples_of_8(name, gates):
    with torch.device("meta"):
        backbone = create_network(name).backbone
    assert [m.fc1.out_channels for m in backbone.modules() if isinstance(m, SqueezeExcitation)] == gates


def test_gate_is_a_hard_sigmoid():
    gate, x = SqueezeExcitation(16), torch.rand(2, 16, 3, 4)
    for bias, wanted in ((-3.0, 0 * x), (0.0, 0.5 * x), (3.0, x)):
        torch.nn.init.zeros_(gate.fc2.weight)
        torch.nn.init.constant_(gate.fc2.bias, bias)
        torch.testing.assert_close(gate(x), wanted)


def test_norm_settings_and_initialization():
    torch.manual_seed(0)
    backbone = create_network("mobilenet_v3_small").backbone
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    last = backbone[12].conv.weight
    assert last.abs().max() <= 0.18
    assert last.std().item() == pytest.approx(0.88 * 0.09, rel=0.05)
    assert all(m.fc1.bias.abs().max() == 0 for m in backbone.modules() if isinstance(m, SqueezeExcitation))
