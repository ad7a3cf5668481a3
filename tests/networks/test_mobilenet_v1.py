"""MobileNetV1: counts, strides, initialization."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.counts import count_parameters

pytestmark = pytest.mark.torch

# Keras: MobileNet at width 1 has 4,231,976 trainable parameters (4,253,864 with the norms' statistics), of which the
# classifier 1,025,000 (https://keras.io/api/applications/mobilenet); timm's mobilenetv1_100 has as many: 4.23 M.
BACKBONE = 4_231_976 - (1024 * 1000 + 1000)


def test_parameter_count():
    with torch.device("meta"):
        model = create_network("mobilenet_v1")
    assert count_parameters(model.backbone) == BACKBONE
    assert count_parameters(model) == BACKBONE + 6_297_361


def test_output_shape_of_each_stage():
    backbone = create_network("mobilenet_v1").backbone.eval()
    shapes = []
    for layer in (backbone.conv1, *backbone.layers):
        layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 32))
    assert shapes == [(32, 32, 16), (64, 32, 16), (128, 16, 8), (256, 8, 4), (512, 4, 2), (1024, 2, 1)]


def test_initialization_is_the_published_one():
    torch.manual_seed(0)
    backbone = create_network("mobilenet_v1").backbone
    for weight in (backbone.conv1.conv.weight, backbone.layers[3][2].pointwise.conv.weight):
        assert weight.abs().max() <= 0.18
        # 0.88 is the standard deviation of a standard normal distribution truncated at 2
        assert weight.std().item() == pytest.approx(0.88 * 0.09, rel=0.05)
