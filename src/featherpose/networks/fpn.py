"""Shared by networks designed for CPUs: channels in whole blocks, a backbone of stages, an FPN head.

CPU inference engines store channels in blocks of 16 and are fast as long as maps keep that layout: channels are
multiples of 16, upsampling is nearest by integer factors, maps of equal shape are added, and channels are never split
or shuffled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from featherpose.errors import ModelError
from featherpose.networks.attention import create_attention
from featherpose.networks.heads import SeparableConv
from featherpose.networks.layers import ConvUnit, upsample_nearest

BLOCK = 16  # channels


def scaled(channels: Sequence[int], width: float) -> list[int]:
    """Channels and a width factor -> the scaled channels, rounded to multiples of 16 and at least 16."""
    if not width > 0 or math.isinf(width):
        raise ModelError(
            f"width is {width}; it scales the channels and must be finite and above 0, for example width=0.5."
        )
    # Not `round`, which takes halves to the even number: the steps would be uneven.
    blocks = [math.floor(c * width / BLOCK + 0.5) for c in channels]
    return [max(1, count) * BLOCK for count in blocks]


class Stages(nn.Module):
    """Stages in sequence, each halving the resolution: image (N, 3, H, W) -> maps of all but the first, finest first.

    With five stages these are the maps at 1/4, 1/8, 1/16, 1/32 of the input.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)  # (N, C, h, w) at 1/2, 1/4, 1/8, ... of the input
            maps.append(x)
        return maps[1:]


class FPNHead(nn.Module):
    """Attention on every resolution, then an FPN: maps, finest first -> heatmaps (N, K, H/4, W/4).

    Each map passes its own attention block and a 1x1 convolution to `hidden` channels. From the coarsest to the
    finest, the result so far is upsampled (nearest), added and smoothed by a 3x3 convolution (a feature pyramid
    network, Lin et al. 2017, https://arxiv.org/abs/1612.03144, with smoothing at each level before the next
    upsampling). The last 1x1 reads the finest map.
    """

    def __init__(self, channels: Sequence[int], num_keypoints: int, *, hidden: int, attention: str = "cbam") -> None:
        super().__init__()
        self.attention = nn.ModuleList(create_attention(attention, c) for c in channels)
        self.laterals = nn.ModuleList(ConvUnit(c, hidden, activation=None) for c in channels)
        self.smooth = nn.ModuleList(SeparableConv(hidden, hidden) for _ in channels[1:])
        self.final_layer = nn.Conv2d(hidden, num_keypoints, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        branches = zip(self.laterals, self.attention, maps, strict=True)
        lateral_maps = [project(attend(x)) for project, attend, x in branches]  # (N, hidden, h, w) each
        x = lateral_maps[-1]  # (N, hidden, H/32, W/32)
        for lateral_map, smooth in zip(reversed(lateral_maps[:-1]), reversed(self.smooth), strict=True):
            factor = lateral_map.shape[-1] // x.shape[-1]
            x = smooth(lateral_map + upsample_nearest(x, factor))  # (N, hidden, h, w) of the lateral map
        return self.final_layer(x)  # (N, K, H/4, W/4)
