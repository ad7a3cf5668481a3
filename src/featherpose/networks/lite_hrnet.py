"""Lite-HRNet.

Lite-HRNet: A Lightweight High-Resolution Network, Yu et al. 2021, https://arxiv.org/abs/2104.06403; names of
submodules as in the published checkpoints (https://github.com/HRNet/Lite-HRNet). The fuse layers of the published code
differ from the paper's figure: see `Fuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks.attention import Attention
from featherpose.networks.branches import Exchange, Transition
from featherpose.networks.heads import FinalLayer, IterativeHead, PoseNetwork
from featherpose.networks.layers import (
    ConvUnit,
    TwiceCountedBatchNorm,
    average_pool_to,
    interleave,
    relu,
    upsample_nearest,
)

STEM_CHANNELS = 32
MODULES = {18: (2, 4, 2), 30: (3, 8, 3)}  # modules per stage; the stages have 2, 3, 4 branches
BLOCKS_PER_MODULE = 2
FUSES = ("halved", "published")

Attend = Callable[[int], Attention]
"""Number of channels -> attention block."""


class Stem(nn.Module):
    """Image (N, 3, H, W) -> (N, 32, H/4, W/4): a strided convolution and a strided shuffle unit."""

    def __init__(self, channels: int = STEM_CHANNELS) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvUnit(3, channels, 3, stride=2)
        self.branch1 = nn.Sequential(
            ConvUnit(half, half, 3, stride=2, depthwise=True, activation=None), ConvUnit(half, half)
        )
        self.expand_conv = ConvUnit(half, channels)
        self.depthwise_conv = ConvUnit(channels, channels, 3, stride=2, depthwise=True, activation=None)
        self.linear_conv = ConvUnit(channels, half)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv1(x).chunk(2, dim=1)  # (N, 16, H/2, W/2) each
        second = self.expand_conv(second)  # (N, 32, H/2, W/2)
        second = self.linear_conv(self.depthwise_conv(second))  # (N, 16, H/4, W/4)
        return interleave(self.branch1(first), second)  # (N, 32, H/4, W/4)


class CrossResolutionWeighting(nn.Module):
    """Channel gates from all branches together: maps, finest first -> the same maps, gated (paper, 3.2).

    Every map is average-pooled to the size of the coarsest; two 1x1 convolutions of the concatenation give the gates.
    """

    def __init__(self, channels: Sequence[int], reduction: int = 8) -> None:
        super().__init__()
        self.channels = tuple(channels)
        total = sum(channels)
        self.conv1 = ConvUnit(total, total // reduction)
        self.conv2 = ConvUnit(total // reduction, total, activation=nn.Sigmoid)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        height, width = maps[-1].shape[-2:]
        pooled = torch.cat([average_pool_to(x, (height, width)) for x in maps], dim=1)  # (N, sum of C_i, h, w)
        gates = self.conv2(self.conv1(pooled)).split(self.channels, dim=1)  # (N, C_i, h, w) each
        return [x * upsample_nearest(gate, x.shape[-1] // width) for x, gate in zip(maps, gates, strict=True)]


class SpatialWeighting(nn.Module):
    """Channel gate of one map from its global average: (N, C, H, W) -> same shape (paper, 3.2; reduction 4)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // reduction, norm=False)
        self.conv2 = ConvUnit(channels // reduction, channels, norm=False, activation=nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.conv2(self.conv1(mean))  # (N, C, 1, 1)
        return x * gate  # (N, C, H, W)


class Block(nn.Module):
    """Conditional channel weighting on all branches: maps, finest first -> same shapes (paper, 3.2, figure 1b).

    One half of each map's channels is passed unchanged; the other is weighted across resolutions, convolved depthwise
    and spatially weighted (or gated by an attention block, `attention_at="block"`); the halves are interleaved.
    """

    def __init__(self, channels: Sequence[int], *, attention: Attend | None = None) -> None:
        super().__init__()
        halves = [c // 2 for c in channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList(ConvUnit(c, c, 3, depthwise=True, activation=None) for c in halves)
        self.spatial_weighting = nn.ModuleList(attention(c) if attention else SpatialWeighting(c) for c in halves)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        halves = [x.chunk(2, dim=1) for x in maps]  # two of (N, C_i / 2, h_i, w_i) per map
        worked = self.cross_resolution_weighting([second for _, second in halves])
        branches = zip(halves, worked, self.depthwise_convs, self.spatial_weighting, strict=True)
        return [interleave(first, weigh(convolve(x))) for (first, _), x, convolve, weigh in branches]


class Fuse(Exchange):
    """Exchange between all resolutions: maps o_0 ... o_n, finest first -> as many fused maps.

    The published code does not compute the usual sum over the paths F_ij from branch j to branch i, but
    y_0 = 2 o_0 + sum_j F_0j(o_j) and y_i = 2 F_i0(y_0) + o_i + sum_j F_ij(o_j), each followed by ReLU: it adds in place
    to o_0, which the later paths then read. It also runs F_i0 twice. Here it runs once, which gives the same sum;
    `TwiceCountedBatchNorm` updates the running statistics as two forward passes would.

    `halved` uses y_0 / 2 instead: y_0 = o_0 + 1/2 sum_j F_0j(o_j). The following norms and weights can absorb the
    factor, so both forms represent the same functions, but they do not train alike: channel 0 of a map is never
    convolved (the shuffle keeps it first), so the published form doubles it in each module, to about 150 times the
    standard deviation of the other channels after the eight modules of depth 18.
    """

    def __init__(self, channels: Sequence[int], *, halved: bool = False) -> None:
        super().__init__(channels, _halve, len(channels))
        self.halved = halved

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        finest = self._finest(maps)  # (N, C_0, H/4, W/4)
        coarser = [self._coarser(i, maps, finest) for i in range(1, len(maps))]  # (N, C_i, h_i, w_i) each
        # Not in place: the paths to the coarser maps read y_0 before its ReLU, and their gradient needs it.
        return [finest.relu(), *coarser]

    def _finest(self, maps: Sequence[Tensor]) -> Tensor:
        received = self._sum_from_coarser(0, maps)  # (N, C_0, H/4, W/4)
        if self.halved:
            return torch.add(maps[0], received, alpha=0.5)
        return torch.add(received, maps[0], alpha=2)

    def _coarser(self, i: int, maps: Sequence[Tensor], finest: Tensor) -> Tensor:
        y = torch.add(maps[i], self._apply_path(0, i, finest), alpha=2)  # (N, C_i, h_i, w_i)
        for j in range(1, i):
            y += self._apply_path(j, i, maps[j])
        if i < len(maps) - 1:
            y += self._sum_from_coarser(i, maps)
        return y.relu_()


def _halve(source: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """One step of a path from branch `source` to a coarser one; norms of branch 0 count twice (see `Fuse`)."""
    norm = TwiceCountedBatchNorm if source == 0 else nn.BatchNorm2d
    return _depthwise_separable(in_channels, out_channels, 2, norm=norm)


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return _depthwise_separable(in_channels, out_channels, stride).append(relu())


def _depthwise_separable(
    in_channels: int, out_channels: int, stride: int, *, norm: type[nn.BatchNorm2d] = nn.BatchNorm2d
) -> nn.Sequential:
    """Depthwise 3x3 with `stride` and 1x1 convolution, each with a norm: (N, C_in, H, W) -> (N, C_out, H/s, W/s)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        norm(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        norm(out_channels),
    )


class LiteModule(nn.Module):
    """Two conditional channel weighting blocks, then fusion: maps, finest first -> same shapes."""

    def __init__(self, channels: Sequence[int], *, attention: Attend | None = None, halved: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Block(channels, attention=attention) for _ in range(BLOCKS_PER_MODULE)))
        self.fuse_layers = Fuse(channels, halved=halved)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = self.layers(maps)  # same shapes
        return self.fuse_layers(maps)


class LiteHRNet(nn.Module):
    """The backbone: image (N, 3, H, W) -> maps at 1/4, 1/8, 1/16, 1/32 of its size, or what `neck` makes of them."""

    transition0: Transition
    transition1: Transition
    transition2: Transition
    stage0: nn.Sequential
    stage1: nn.Sequential
    stage2: nn.Sequential

    def __init__(
        self,
        depth: int,
        channels: Sequence[int],
        create_module: Callable[[Sequence[int]], nn.Module],
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stem = Stem()
        before: Sequence[int] = (STEM_CHANNELS,)
        for stage, modules in enumerate(MODULES[depth]):
            after = channels[: stage + 2]
            transition = Transition(before, after, _downsample)
            stage_modules = [create_module(after) for _ in range(modules)]
            self.add_module(f"transition{stage}", transition)
            self.add_module(f"stage{stage}", nn.Sequential(*stage_modules))
            before = after
        # Part of the backbone, because published checkpoints name it `backbone.head_layer`.
        self.head_layer = neck or nn.Identity()

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = self.stem(x)  # (N, 32, H/4, W/4)
        maps = self.stage0(self.transition0([x]))  # (N, C, H/4, W/4), (N, 2 C, H/8, W/8)
        maps = self.stage1(self.transition1(maps))  # ..., (N, 4 C, H/16, W/16)
        maps = self.stage2(self.transition2(maps))  # ..., (N, 8 C, H/32, W/32)
        return self.head_layer(maps)  # without neck (N, C, H/4, W/4), (N, 2 C, H/8, W/8), ...


def lite_hrnet(depth: int, num_keypoints: int, *, width: int, fuse: str) -> PoseNetwork:
    """Lite-HRNet of `depth` 18 or 30, with the iterative head; `width` channels at 1/4."""
    channels = branch_channels(width)
    backbone = LiteHRNet(depth, channels, module_builder(fuse=fuse), IterativeHead(channels))
    return PoseNetwork(backbone, FinalLayer(channels[0], num_keypoints))


def module_builder(*, fuse: str, attention: Attend | None = None) -> Callable[[Sequence[int]], LiteModule]:
    """Options of the modules -> a function from the channels of the branches to a module. ModelError if unknown."""
    if fuse not in FUSES:
        raise ModelError(f"Unknown fuse {fuse!r}.{did_you_mean(fuse, FUSES)}")
    return partial(LiteModule, attention=attention, halved=fuse == "halved")


def branch_channels(width: int) -> list[int]:
    """Channels at 1/4 of the input -> channels at 1/4, 1/8, 1/16, 1/32. ModelError if odd or below 8."""
    if width < 8 or width % 2:
        raise ModelError(f"width is {width}; it must be even and at least 8, for example width=40.")
    return [width, width * 2, width * 4, width * 8]


def lite_hrnet_18(num_keypoints: int = 17, *, width: int = 40, fuse: str = "published") -> PoseNetwork:
    """Lite-HRNet-18: 1.13 M parameters."""
    return lite_hrnet(18, num_keypoints, width=width, fuse=fuse)


def lite_hrnet_30(num_keypoints: int = 17, *, width: int = 40, fuse: str = "published") -> PoseNetwork:
    """Lite-HRNet-30: 1.76 M parameters."""
    return lite_hrnet(30, num_keypoints, width=width, fuse=fuse)
