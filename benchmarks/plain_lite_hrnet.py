"""Lite-HRNet-18 in plain PyTorch, computed exactly as in the published code; the baseline of `train_speed`.

Lite-HRNet: A Lightweight High-Resolution Network, Yu et al. 2021, https://arxiv.org/abs/2104.06403. Nothing here is
optimized: the memory layout is PyTorch's default, every path of a fusion is upsampled separately, and the paths from
the finest map run twice, as in the published code (see `Fuse` in `featherpose.networks.lite_hrnet`). Weights have the
same names as there, and with the same weights both give the same heatmaps; a test checks this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (40, 80, 160, 320)
MODULES = (2, 4, 2)


def unit(
    c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False, act: str = "relu"
) -> nn.Sequential:
    """Convolution, batch norm unless there is a bias, activation unless it is "none"."""
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=bias))
    if not bias:
        layers.add_module("bn", nn.BatchNorm2d(c_out))
    if act != "none":
        layers.add_module("activate", nn.ReLU(inplace=True) if act == "relu" else nn.Sigmoid())
    return layers


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    """Channel shuffle, which interleaves the groups: (N, C, H, W) in and out."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Stem(nn.Module):
    """Image (N, 3, H, W) in, (N, 32, H/4, W/4) out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = unit(3, 32, 3, 2)
        self.branch1 = nn.Sequential(unit(16, 16, 3, 2, 16, act="none"), unit(16, 16))
        self.expand_conv = unit(16, 32)
        self.depthwise_conv = unit(32, 32, 3, 2, 32, act="none")
        self.linear_conv = unit(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = self.conv1(x).chunk(2, dim=1)  # (N, 16, H/2, W/2) each
        worked = self.expand_conv(worked)  # (N, 32, H/2, W/2)
        worked = self.linear_conv(self.depthwise_conv(worked))  # (N, 16, H/4, W/4)
        return shuffle(torch.cat((self.branch1(kept), worked), dim=1))  # (N, 32, H/4, W/4)


class CrossResolutionWeighting(nn.Module):
    """Cross-resolution weighting: maps in, the same maps times weights computed from all of them out."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = channels
        total = sum(channels)
        self.conv1 = unit(total, total // 8)
        self.conv2 = unit(total // 8, total, act="sigmoid")

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        size = maps[-1].shape[-2:]
        pooled = [functional.adaptive_avg_pool2d(x, size) for x in maps[:-1]] + [maps[-1]]  # (N, C_i, h, w) each
        gates = self.conv2(self.conv1(torch.cat(pooled, dim=1)))  # (N, sum of C_i, h, w)
        gates = gates.split(self.channels, dim=1)  # (N, C_i, h, w) each
        return [
            x * functional.interpolate(g, size=x.shape[-2:], mode="nearest") for x, g in zip(maps, gates, strict=True)
        ]


class SpatialWeighting(nn.Module):
    """Spatial weighting: map in, the map times channel weights computed from its mean out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = unit(channels, channels // 4, bias=True)
        self.conv2 = unit(channels // 4, channels, bias=True, act="sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv2(self.conv1(self.pool(x)))  # (N, C, 1, 1)
        return x * gate  # (N, C, H, W)


class Block(nn.Module):
    """Conditional channel weighting block: maps in and out."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        halves = [c // 2 for c in channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList(unit(c, c, 3, groups=c, act="none") for c in halves)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c) for c in halves)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        pairs = [x.chunk(2, dim=1) for x in maps]  # two of (N, C_i / 2, h_i, w_i) per map
        worked = self.cross_resolution_weighting([second for _, second in pairs])
        worked = [convolve(x) for x, convolve in zip(worked, self.depthwise_convs, strict=True)]
        worked = [weigh(x) for x, weigh in zip(worked, self.spatial_weighting, strict=True)]
        return [shuffle(torch.cat((kept, x), dim=1)) for (kept, _), x in zip(pairs, worked, strict=True)]


def depthwise_separable(c_in: int, c_out: int, stride: int, relu: bool) -> nn.Sequential:
    """Depthwise 3x3 and pointwise 1x1 convolution, each with batch norm."""
    layers: list[nn.Module] = [nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in)]
    layers += [nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def fuse_path(channels: list[int], source: int, target: int) -> nn.Module:
    """Layers that convert a map from one resolution to another."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(channels[source], channels[target], 1, bias=False),
            nn.BatchNorm2d(channels[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    halvings = target - source
    between = [depthwise_separable(channels[source], channels[source], 2, relu=True) for _ in range(halvings - 1)]
    return nn.Sequential(*between, depthwise_separable(channels[source], channels[target], 2, relu=False))


class Module(nn.Module):
    """Two blocks and the fusion of all resolutions: maps in and out."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        places = range(len(channels))
        self.layers = nn.Sequential(Block(channels), Block(channels))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(fuse_path(channels, j, i) for j in places) for i in places)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = self.layers(maps)  # (N, C_i, h_i, w_i) each
        fused: list[Tensor] = []
        for i, row in enumerate(self.fuse_layers):
            total = maps[0] if i == 0 else row[0](maps[0])
            for j, x in enumerate(maps):
                total += x if i == j else row[j](x)  # in place: i = 0 changes the map that later rows read
            fused.append(functional.relu(total))
        return fused


class Transition(nn.ModuleList):
    """Maps in, the same and one of half the coarsest resolution out."""

    def __init__(self, before: list[int], after: list[int]) -> None:
        stem = len(before) == 1
        kept = [depthwise_separable(before[0], after[0], 1, relu=True)] if stem else [nn.Identity() for _ in before]
        super().__init__([*kept, nn.Sequential(depthwise_separable(before[-1], after[-1], 2, relu=True))])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [layers(x) for layers, x in zip(self, [*maps, maps[-1]], strict=True)]


class DepthwiseSeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, ReLU last."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.depthwise_conv = unit(c_in, c_in, 3, groups=c_in, act="none")
        self.pointwise_conv = unit(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))  # (N, C_out, H, W)


class Neck(nn.Module):
    """Four maps in; the finest one, with the others upsampled and added from coarse to fine, out."""

    def __init__(self) -> None:
        super().__init__()
        outputs = [160, 80, 40, 40]
        self.projects = nn.ModuleList(
            DepthwiseSeparableConv(i, o) for i, o in zip(reversed(CHANNELS), outputs, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.projects[0](maps[3])  # (N, 160, H/32, W/32)
        for project, finer in zip(self.projects[1:], maps[2::-1], strict=True):
            size = finer.shape[-2:]
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)  # shape of `finer`
            x = project(finer + x)
        return x  # (N, 40, H/4, W/4)


class Backbone(nn.Module):
    """Image (N, 3, H, W) in, one map (N, 40, H/4, W/4) out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        before = [32]
        for stage, count in enumerate(MODULES):
            after = list(CHANNELS[: stage + 2])
            self.add_module(f"transition{stage}", Transition(before, after))
            self.add_module(f"stage{stage}", nn.Sequential(*(Module(after) for _ in range(count))))
            before = after
        self.head_layer = Neck()

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]  # (N, 32, H/4, W/4)
        for stage in range(len(MODULES)):
            maps = self.get_submodule(f"transition{stage}")(maps)  # one more map, at half the resolution
            maps = self.get_submodule(f"stage{stage}")(maps)
        return self.head_layer(maps)  # (N, 40, H/4, W/4)


class LiteHRNet18(nn.Module):
    """Normalized image (N, 3, H, W) in, heatmaps (N, K, H/4, W/4) out."""

    def __init__(self, num_keypoints: int = 17) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.keypoint_head = nn.ModuleDict({"final_layer": nn.Conv2d(CHANNELS[0], num_keypoints, 1)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)  # (N, 40, H/4, W/4)
        return self.keypoint_head["final_layer"](x)  # (N, K, H/4, W/4)
