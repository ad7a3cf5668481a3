"""HRNet, and HRNet with attention on its four resolutions.

Deep High-Resolution Representation Learning for Human Pose Estimation, Sun et al. 2019,
https://arxiv.org/abs/1902.09212; names of submodules as in mmpose's checkpoints, which are the official ones with the
prefixes `backbone.` and `keypoint_head.`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from featherpose.networks.attention import create_attention
from featherpose.networks.attention_heads import ConcatHead
from featherpose.networks.branches import Exchange, Transition
from featherpose.networks.heads import FinalLayer, PoseNetwork
from featherpose.networks.initialize import init_normal
from featherpose.networks.layers import BasicBlock, Bottleneck, relu

STEM_CHANNELS = 256
MODULES = (1, 4, 3)  # per stage of 2, 3, 4 branches (paper, section 3, "network instantiation")
BLOCKS_PER_MODULE = 4


class Fuse(Exchange):
    """Each map plus the paths from all other maps, then ReLU: maps, finest first -> the first `outputs` of them."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__(channels, _halve, outputs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self._fused(i, maps) for i in range(len(self))]  # (N, C_i, h_i, w_i) each

    def _fused(self, i: int, maps: Sequence[Tensor]) -> Tensor:
        parts = [self._apply_path(j, i, maps[j]) for j in range(i)]  # (N, C_i, h_i, w_i) each
        if i < len(maps) - 1:
            parts.append(self._sum_from_coarser(i, maps))
        total = sum(parts[1:], maps[i] + parts[0])
        return total.relu_()  # in place is safe: the sum is a new tensor


def _halve(source: int, in_channels: int, out_channels: int) -> nn.Sequential:
    del source
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False), nn.BatchNorm2d(out_channels))


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), relu())


class HighResolutionModule(nn.Module):
    """Four residual blocks on each map, then fusion: maps, finest first -> the first `outputs` of them."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c, c) for _ in range(BLOCKS_PER_MODULE))) for c in channels
        )
        self.fuse_layers = Fuse(channels, outputs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = [blocks(x) for blocks, x in zip(self.branches, maps, strict=True)]  # same shapes
        return self.fuse_layers(maps)


class HRNet(nn.Module):
    """The backbone: image (N, 3, H, W) -> its finest map (N, width, H/4, W/4), or all maps of the last stage.

    `stages` counts the stages with several branches: 3 as published; TokenPose uses 2, or 0 for the stem's map of 256
    channels. The last module has paths to the coarser maps only with `all_maps`.
    """

    def __init__(self, width: int, *, stages: int = 3, all_maps: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), *(Bottleneck(STEM_CHANNELS, 64) for _ in range(3)))
        before = [STEM_CHANNELS]
        for stage in range(stages):
            after = [width * 2**i for i in range(stage + 2)]
            outputs = [len(after)] * MODULES[stage]
            if stage == stages - 1 and not all_maps:
                outputs[-1] = 1  # nothing reads the coarser maps of the last module
            transition = Transition(before, after, _downsample)
            modules = [HighResolutionModule(after, number) for number in outputs]
            # Numbered as published, where `layer1` is the first stage.
            self.add_module(f"transition{stage + 1}", transition)
            self.add_module(f"stage{stage + 2}", nn.Sequential(*modules))
            before = after
        self.stages = stages
        self.all_maps = all_maps

    def init_weights(self) -> None:
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = self.bn1(self.conv1(x)).relu_()  # (N, 64, H/2, W/2)
        x = self.bn2(self.conv2(x)).relu_()  # (N, 64, H/4, W/4)
        maps = [self.layer1(x)]  # (N, 256, H/4, W/4)
        for stage in range(self.stages):
            maps = self.get_submodule(f"transition{stage + 1}")(maps)  # one more map, at half the resolution
            maps = self.get_submodule(f"stage{stage + 2}")(maps)
        return maps if self.all_maps else maps[0]


def hrnet(width: int, num_keypoints: int, attention: str) -> PoseNetwork:
    """HRNet with `width` channels at 1/4: as published, with the finest map only, or with attention on all four."""
    if attention == "none":
        return PoseNetwork(HRNet(width), FinalLayer(width, num_keypoints))
    create = partial(create_attention, attention, open_gates=True)
    head = ConcatHead([width * 2**i for i in range(4)], num_keypoints, create, norm=True)
    return PoseNetwork(HRNet(width, all_maps=True), head)


def hrnet_w32(num_keypoints: int = 17, *, attention: str = "none") -> PoseNetwork:
    """HRNet-W32: 28.5 M parameters."""
    return hrnet(32, num_keypoints, attention)


def hrnet_w48(num_keypoints: int = 17, *, attention: str = "none") -> PoseNetwork:
    """HRNet-W48: 63.6 M parameters."""
    return hrnet(48, num_keypoints, attention)
