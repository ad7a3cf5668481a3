"""ShuffleNetV1: counts, the channel shuffle, the two kinds of unit, initialization."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.counts import count_parameters
from featherpose.networks.shufflenet_v1 import GroupUnit, channel_shuffle

pytestmark = pytest.mark.torch


def test_parameter_count():
    """mmpretrain lists 1.87 M parameters with the classifier, which has 960 x 1000 + 1000."""
    with torch.device("meta"):
        model = create_network("shufflenet_v1")
    assert count_parameters(model.backbone) == 904_728
    assert round((904_728 + 961_000) / 1e6, 2) == 1.87
    assert count_parameters(model) == 904_728 + 6_035_217


def count_from_table():
    """Sum over table 1 and figure 2 of the paper: convolutions of all units and two values per channel of each norm."""
    total, inputs = 24 * 3 * 9 + 2 * 24, 24
    for stage, (channels, units) in enumerate(((240, 4), (480, 8), (960, 4))):
        for unit in range(units):
            hidden, branch_channels = channels // 4, channels if unit else channels - inputs
            groups = 1 if stage == unit == 0 else 3
            total += (
                inputs * hidden // groups
                + hidden * 9
                + hidden * branch_channels // 3
                + 2 * (hidden + hidden + branch_channels)
            )
            inputs = channels
    return total


def test_parameter_count_matches_paper_table():
    assert count_from_table() == 904_728


def test_channel_shuffle_interleaves_groups():
    assert channel_shuffle(torch.arange(6).view(1, 6, 1, 1), 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_unit_mixes_all_channel_groups():
    """Without the shuffle, an output would depend on only one third of the input."""
    unit = GroupUnit(12, 36, stride=2, groups=3).eval()
    x = torch.rand(1, 12, 4, 4, requires_grad=True)
    assert unit(x).shape == (1, 36, 2, 2)
    with torch.no_grad():
        for conv in (unit.g_conv_1x1_compress.conv, unit.depthwise_conv3x3_bn.conv, unit.g_conv_1x1_expand.conv):
            conv.weight.fill_(1.0)
    (gradient,) = torch.autograd.grad(unit(x)[:, 12].sum(), x)
    assert (gradient.sum((0, 2, 3)) != 0).all()


def test_unit_adds_or_concatenates_its_input():
    unit, half = GroupUnit(24, 24).eval(), GroupUnit(12, 24, stride=2).eval()
    for silent in (unit, half):
        torch.nn.init.zeros_(silent.g_conv_1x1_expand.conv.weight)
    x = torch.randn(1, 24, 4, 4)
    assert torch.equal(unit(x), x.relu())
    y = half(x[:, :12])
    torch.testing.assert_close(y[:, :12], torch.nn.functional.avg_pool2d(x[:, :12], 3, 2, 1))
    assert (y[:, 12:] == 0).all()


def test_initialization_is_the_published_one():
    torch.manual_seed(0)
    backbone = create_network("shufflenet_v1").backbone
    first, later = backbone.layers[0][0], backbone.layers[2][1]
    assert first.g_conv_1x1_compress.conv.groups == 1
    assert later.g_conv_1x1_compress.conv.groups == 3
    for weight, deviation in (
        (backbone.conv1.conv.weight, 0.01),
        (later.g_conv_1x1_compress.conv.weight, 3 / 960),
        (later.depthwise_conv3x3_bn.conv.weight, 1.0),
    ):
        assert weight.std().item() == pytest.approx(deviation, rel=0.1)
    assert later.g_conv_1x1_expand.bn.bias.unique().tolist() == pytest.approx([1e-4])
