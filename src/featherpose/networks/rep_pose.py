"""RepPose: reparameterized 3x3 convolutions, each with three branches in training; attention on four resolutions.

The layers are those of RepVGG: Making VGG-style ConvNets Great Again, Ding et al. 2021, section 3,
https://arxiv.org/abs/2101.03697. The head applies the idea of CBAM-LiteHRNet: attention on every resolution before the
last layer.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from featherpose.networks.fpn import FPNHead, Stages, scaled
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.layers import ConvUnit, fold_norm, relu

CHANNELS = (16, 32, 64, 96, 160)  # at 1/2, 1/4, 1/8, 1/16, 1/32 of the input
DEPTHS = (2, 2, 4, 3)  # layers at 1/4 to 1/32, the first with stride 2; at 1/2 there is one plain convolution
HEAD_CHANNELS = 48


class RepUnit(nn.Module):
    """Sum of a 3x3 convolution, a 1x1 convolution and the identity, each with its own norm, then ReLU.

    (N, C_in, H, W) -> (N, C, H / stride, W / stride); the identity branch exists only if the shapes are equal.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.full = ConvUnit(in_channels, channels, 3, stride=stride, activation=None)
        self.point = ConvUnit(in_channels, channels, stride=stride, activation=None)
        self.same = nn.BatchNorm2d(channels) if stride == 1 and in_channels == channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.full(x).add_(self.point(x))  # (N, C, H / stride, W / stride)
        if self.same is not None:
            y = y.add_(self.same(x))
        return y.relu_()

    def merged(self) -> nn.Sequential:
        """One 3x3 convolution with bias, then ReLU: equivalent to this unit in eval mode."""
        full = self.full.conv
        point = self.point.conv
        branches = [_folded(full.weight, self.full.bn), _folded(point.weight, self.point.bn)]
        if self.same is not None:
            identity = nn.init.dirac_(torch.empty_like(point.weight))  # as a 1x1 convolution
            branches.append(_folded(identity, self.same))
        # The branches are linear up to their sum, so the sum of their kernels does the same.
        kernels, biases = zip(*branches, strict=True)
        conv = nn.Conv2d(full.in_channels, full.out_channels, 3, full.stride[0], 1).to(full.weight)
        with torch.no_grad():
            conv.weight.copy_(torch.stack(kernels).sum(0))
            cast(Tensor, conv.bias).copy_(torch.stack(biases).sum(0))
        return nn.Sequential(conv, relu())


def _folded(weight: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (C, C_in, 3, 3) or (C, C_in, 1, 1) and the following batch norm -> one 3x3 kernel and its bias, float64.

    A 1x1 kernel is padded with zeros to 3x3.
    """
    kernel, bias = fold_norm(weight, None, norm)  # (C, C_in, 3, 3) or (C, C_in, 1, 1), (C,)
    margin = (3 - weight.shape[-1]) // 2
    return nn.functional.pad(kernel, [margin] * 4), bias  # (C, C_in, 3, 3)


def merged(network: nn.Module) -> nn.Module:
    """A network -> an equivalent copy in eval mode with every `RepUnit` merged into one convolution."""
    network = copy.deepcopy(network).eval()
    for name, unit in list(network.named_modules()):
        if isinstance(unit, RepUnit):
            network.set_submodule(name, unit.merged())
    return network


class RepPose(PoseNetwork):
    """Normalized image (N, 3, H, W) -> heatmaps (N, K, H/4, W/4); exported with merged branches."""

    def for_export(self) -> nn.Module:
        return merged(self)


def _stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    first = RepUnit(in_channels, channels, 2)
    others = [RepUnit(channels, channels) for _ in range(depth - 1)]
    return nn.Sequential(first, *others)


def rep_pose(num_keypoints: int = 17, *, width: float = 1.0, attention: str = "cbam") -> RepPose:
    """RepPose: 1.1 M parameters, 1.0 M after merging; `width` scales the channels."""
    *channels, hidden = scaled((*CHANNELS, HEAD_CHANNELS), width)
    # No branches here: torch 2.13 writes out of bounds in the gradient of a 1x1 with stride 2 and 3 input channels.
    stem = ConvUnit(3, channels[0], 3, stride=2)
    sizes = zip(channels[:-1], channels[1:], DEPTHS, strict=True)
    stages = [_stage(in_channels, out_channels, depth) for in_channels, out_channels, depth in sizes]
    head = FPNHead(channels[1:], num_keypoints, hidden=hidden, attention=attention)
    return RepPose(Stages([stem, *stages]), head)
