"""Shared by networks designed for CPUs: channels in whole blocks, a backbone of stages, an FPN and a head on it.

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


def check_channels(option: str, channels: int) -> None:
    """Name and value of an option that sets the width of a neck or head; ModelError unless a multiple of 16."""
    if channels < BLOCK or channels % BLOCK:
        raise ModelError(f"{option} is {channels}; wanted a multiple of {BLOCK}, which is fast on CPUs.")


def top_down(maps: Sequence[Tensor], smooth: Sequence[nn.Module]) -> list[Tensor]:
    """Maps (N, C, h, w), finest first -> maps of the same shapes that each contain the coarser ones.

    From the coarsest, which stays, to the finest, the result so far is upsampled (nearest), added and smoothed by the
    level's own layer (a feature pyramid network, Lin et al. 2017, https://arxiv.org/abs/1612.03144, with smoothing at
    each level before the next upsampling).
    """
    x = maps[-1]
    merged = [x]
    for finer, layer in zip(reversed(maps[:-1]), reversed(smooth), strict=True):
        x = layer(finer + upsample_nearest(x, finer.shape[-1] // x.shape[-1]))
        merged.append(x)
    return merged[::-1]


class FPN(nn.Module):
    """A feature pyramid network: maps, finest first -> maps of `hidden` channels at the same resolutions.

    Each map passes a 1x1 convolution; the coarsest is smoothed as well, so that a head can read all levels alike.
    """

    def __init__(self, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(ConvUnit(c, hidden, activation=None) for c in channels)
        self.smooth = nn.ModuleList(SeparableConv(hidden, hidden) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        *finer, coarsest = [project(x) for project, x in zip(self.laterals, maps, strict=True)]
        *smooth, smooth_coarsest = self.smooth
        return top_down([*finer, smooth_coarsest(coarsest)], smooth)


class FPNHead(nn.Module):
    """Attention on every resolution, then an FPN: maps, finest first -> heatmaps (N, K, H/4, W/4).

    Each map passes its own attention block and a 1x1 convolution to `hidden` channels. From the coarsest to the
    finest they are added and smoothed by 3x3 convolutions (`top_down`). The last 1x1 reads the finest map.
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
        finest = top_down(lateral_maps, list(self.smooth))[0]  # (N, hidden, H/4, W/4)
        return self.final_layer(finest)  # (N, K, H/4, W/4)
