"""Naive Lite-HRNet: shuffle units in place of conditional channel weighting.

Lite-HRNet: A Lightweight High-Resolution Network, Yu et al. 2021, section 3.1, https://arxiv.org/abs/2104.06403;
everything else, including the names of submodules, as in `lite_hrnet`. The official configuration of the narrow network
cannot run: its last layer expects 40 channels, but the backbone outputs 30; here it expects 30.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from featherpose.networks.heads import FinalLayer, IterativeHead, PoseNetwork
from featherpose.networks.layers import ShuffleUnit
from featherpose.networks.lite_hrnet import BLOCKS_PER_MODULE, Fuse, LiteHRNet, branch_channels


class ShuffleModule(nn.Module):
    """Two shuffle units on each map, then fusion: maps, finest first -> same shapes."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(*(ShuffleUnit(c, c) for _ in range(BLOCKS_PER_MODULE))) for c in channels
        )
        self.fuse_layers = Fuse(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = [units(x) for units, x in zip(self.layers, maps, strict=True)]  # same shapes
        return self.fuse_layers(maps)


def naive_lite_hrnet_18(num_keypoints: int = 17, *, width: int = 30) -> PoseNetwork:
    """Naive Lite-HRNet-18 with `width` channels at 1/4: 0.76 M parameters."""
    channels = branch_channels(width)
    backbone = LiteHRNet(18, channels, ShuffleModule, IterativeHead(channels))
    return PoseNetwork(backbone, FinalLayer(width, num_keypoints))


def wider_naive_lite_hrnet_18(num_keypoints: int = 17) -> PoseNetwork:
    """Naive Lite-HRNet-18 with the channels of Lite-HRNet-18: 1.32 M parameters."""
    return naive_lite_hrnet_18(num_keypoints, width=40)
