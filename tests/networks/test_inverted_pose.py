"""InvertedPose: counts, widths, activation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.attention import ATTENTIONS, Unchanged
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.size import Size

pytestmark = pytest.mark.torch

# options, parameters, multiply-accumulates of one 256x192 crop
COUNTS = [
    ({}, 681_782, 165_232_928),
    ({"attention": "none"}, 676_257, 164_823_552),
    ({"width": 0.5}, 195_580, 67_208_352),
    ({"width": 0.75}, 448_514, 119_927_584),
    ({"width": 1.5}, 1_537_681, 404_759_008),
]


def create_on_meta(**options):
    with torch.device("meta"):
        return create_network("inverted_pose", **options)


@pytest.mark.parametrize(("options", "parameters", "macs"), COUNTS)
def test_parameter_and_mac_counts(options, parameters, macs):
    model = create_on_meta(**options)
    assert (count_parameters(model), count_macs(model, Size(height=256, width=192))) == (parameters, macs)


@pytest.mark.parametrize("width", [0.01, 0.5, 0.75, 1, 1.3, 1.5])
def test_channels_are_multiples_of_16(width):
    model = create_on_meta(width=width)
    maps = [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    gates = [n for n, _ in model.named_modules() if n.endswith("spatial.conv")]
    assert sum(c % 16 != 0 for c in maps) == len(gates) + 1  # and the heatmaps


def test_relu_is_the_only_activation():
    kinds = {type(m) for m in create_on_meta(attention="none").modules() if not list(m.children())}
    assert kinds == {torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.ReLU, torch.nn.Identity, Unchanged}


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_every_attention_weight_gets_a_gradient(attention):
    torch.manual_seed(0)
    model = create_network("inverted_pose", 5, width=0.5, attention=attention)
    model(torch.randn(4, 3, 64, 96)).square().sum().backward()
    weights = {n: p for n, p in model.named_parameters() if n.endswith("weight")}
    assert [n for n, p in weights.items() if p.grad is None or p.grad.abs().max() == 0] == []
    assert any("attention" in n for n in weights) == (attention != "none")
