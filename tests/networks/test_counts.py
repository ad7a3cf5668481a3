"""Exact counts of parameters and multiply-accumulates; tests/tools counts every network at its default options."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.size import Size

pytestmark = pytest.mark.torch

SIZE = Size(height=256, width=192)

PARAMETERS = [
    ("lite_hrnet_18", {}, 1_130_769),
    ("lite_hrnet_30", {}, 1_763_717),
    ("cbam_lite_hrnet_18", {}, 1_082_246),
    ("cbam_lite_hrnet_30", {}, 1_715_194),
    ("cbam_lite_hrnet_18", {"attention": "none"}, 1_064_249),
    ("cbam_lite_hrnet_30", {"attention": "none"}, 1_697_197),
    ("cbam_lite_hrnet_18", {"width": 32}, 710_575),
    ("cbam_lite_hrnet_18", {"head": "concat", "norm": True}, 1_082_280),
    ("cbam_lite_hrnet_18", {"head": "native"}, 1_082_246),
    ("cbam_lite_hrnet_18", {"head": "iterative"}, 1_148_766),
    ("cbam_lite_hrnet_18", {"head": "iterative", "attention": "none"}, 1_130_769),
    ("cbam_lite_hrnet_18", {"head": "iterative_concat"}, 1_140_588),
]


@pytest.mark.parametrize(("name", "options", "count"), PARAMETERS)
def test_parameter_count(name, options, count):
    assert count_parameters(create_network(name, **options)) == count


def test_macs_of_a_narrow_network():
    assert count_macs(create_network("cbam_lite_hrnet_18", width=32), SIZE) / 1e6 == pytest.approx(133.5, abs=0.05)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), 8 * 3 * 9 * 4 * 6),
        (torch.nn.Conv2d(3, 3, 3, padding=1, groups=3), 3 * 9 * 8 * 12),
        (torch.nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1), 3 * 8 * 16 * 8 * 12),
        (torch.nn.Linear(12, 5), 3 * 8 * 12 * 5),
        (torch.nn.BatchNorm2d(3), 0),
    ],
    ids=["strided", "depthwise", "transposed", "linear", "norm"],
)
def test_macs_of_one_layer(layer, macs):
    assert count_macs(layer, Size(height=8, width=12)) == macs


def test_counting_does_not_change_the_network():
    layer = torch.nn.Conv2d(3, 8, 3).train()
    count_macs(layer, Size(height=8, width=12))
    assert layer.training
    assert layer.weight.device.type == "cpu"
