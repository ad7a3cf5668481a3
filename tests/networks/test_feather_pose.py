"""FeatherPose: counts, shape of the backbone, attention."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.attention import ATTENTIONS
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.size import Size

pytestmark = pytest.mark.torch

# options, parameters, multiply-accumulates of one 256x192 crop
COUNTS = [
    ({"attention": "cbam", "head_channels": 48}, 1_912_087, 325_425_600),
    ({"head_channels": 48}, 1_904_913, 325_012_992),
]


def create_on_meta(**options):
    with torch.device("meta"):
        return create_network("feather_pose", **options)


@pytest.mark.parametrize(("options", "parameters", "macs"), COUNTS)
def test_parameter_and_mac_counts(options, parameters, macs):
    model = create_on_meta(**options)
    assert (count_parameters(model), count_macs(model, Size(height=256, width=192))) == (parameters, macs)


def test_backbone_is_truncated_efficientnet_lite0():
    """4.65 M parameters are published; the difference is the classifier (1,281,000) and the layers after block 13."""
    blocks = 3 * 192 * 1152 + 1152 * 320 + (25 + 9) * 1152 + 2 * (4 * 1152 + 192 + 320)
    left_out = blocks + 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    backbone = create_on_meta().backbone
    assert count_parameters(backbone) + left_out == 4_652_008


def test_parameter_count_of_default_head_width():
    """For width h, 128 by default: four laterals, three separable convolutions, their norms, 17 rows of the last."""

    def head(h: int) -> int:
        return (24 + 40 + 112 + 192) * h + 4 * 2 * h + 3 * ((9 + 2) * h + (h + 2) * h) + 17 * (h + 1)

    assert count_parameters(create_on_meta()) == 1_904_913 - head(48) + head(128)


@pytest.mark.parametrize("width", [0, 8, 40, -16])
def test_head_width_must_be_a_multiple_of_16(width):
    with pytest.raises(ModelError, match=f"head_channels is {width}; wanted a multiple of 16"):
        create_on_meta(head_channels=width)


def test_backbone_maps_at_four_resolutions():
    maps = create_on_meta().backbone(torch.empty(1, 3, 128, 96, device="meta"))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 32, 24), (40, 16, 12), (112, 8, 6), (192, 4, 3)]


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_every_attention_weight_gets_a_gradient(attention):
    torch.manual_seed(0)
    model = create_network("feather_pose", 5, attention=attention)
    model(torch.randn(4, 3, 64, 96)).square().sum().backward()
    weights = {n: p for n, p in model.named_parameters() if n.endswith("weight")}
    assert [n for n, p in weights.items() if p.grad is None or p.grad.abs().max() == 0] == []
    assert any("attention" in n for n in weights) == (attention != "none")
