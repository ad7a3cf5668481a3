"""RepPose: plain 3x3 convolutions to run, three branches in each of them to train, attention on four resolutions.

The layers are those of RepVGG: Making VGG-style ConvNets Great Again, Ding et al. 2021, section 3,
https://arxiv.org/abs/2101.03697. The head carries the idea of CBAM-LiteHRNet: attention on every resolution before the
last layer.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from featherpose.networks.heads import PoseNetwork
from featherpose.networks.layers import ConvUnit, relu
from featherpose.networks.pyramid import PyramidHead, Stages, scaled

CHANNELS = (16, 32, 64, 96, 160)  # at 1/2, 1/4, 1/8, 1/16, 1/32 of the input
DEPTHS = (1, 2, 2, 4, 3)  # layers there, the first with stride 2
HEAD_CHANNELS = 48


class RepUnit(nn.Module):
    """3x3 and 1x1 convolution and the input itself, each with its norm, added; ReLU last.

    (N, C_in, H, W) in, (N, C, H / stride, W / stride) out; the input itself only where that has its shape.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.full = ConvUnit(in_channels, channels, 3, stride=stride, activation=None)
        self.point = ConvUnit(in_channels, channels, stride=stride, activation=None)
        self.same = nn.BatchNorm2d(channels) if stride == 1 and in_channels == channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.full(x).add_(self.point(x))
        return (y if self.same is None else y.add_(self.same(x))).relu_()

    def merged(self) -> nn.Sequential:
        """One 3x3 convolution with bias, and ReLU, that answer as this unit does in eval mode."""
        branches = [(unit.conv.weight, unit.bn) for unit in (self.full, self.point)]
        if self.same is not None:
            branches.append((nn.init.dirac_(torch.empty_like(self.point.conv.weight)), self.same))
        kernels, biases = zip(*(_folded(weight, norm) for weight, norm in branches), strict=True)
        old = self.full.conv
        conv = nn.Conv2d(old.in_channels, old.out_channels, 3, old.stride, 1).to(old.weight)
        with torch.no_grad():
            conv.weight.copy_(sum(kernels))
            conv.bias.copy_(sum(biases))
        return nn.Sequential(conv, relu())


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (C, C_in, 3, 3) or (C, C_in, 1, 1) and the norm behind -> both as one 3x3 kernel and its bias, float64.

    A 1x1 convolution is a 3x3 one that is zero but in the middle.
    """
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    margin = (3 - weight.shape[-1]) // 2
    kernel = nn.functional.pad(weight.double() * gain[:, None, None, None], [margin] * 4)
    return kernel, norm.bias.double() - norm.running_mean.double() * gain


def merged(network: nn.Module) -> nn.Module:
    """A network -> a copy of it in eval mode with every `RepUnit` in it as one convolution; the answers are equal."""
    network = copy.deepcopy(network).eval()
    for name, unit in list(network.named_modules()):
        if isinstance(unit, RepUnit):
            network.set_submodule(name, unit.merged())
    return network


class RepPose(PoseNetwork):
    """Normalised picture (N, 3, H, W) in, heatmaps (N, K, H/4, W/4) out; it is exported with its branches merged."""

    def for_export(self) -> nn.Module:
        return merged(self)


def _stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(RepUnit(in_channels, channels, 2), *(RepUnit(channels, channels) for _ in range(depth - 1)))


def rep_pose(num_keypoints: int = 17, *, width: float = 1.0, attention: str = "cbam") -> RepPose:
    """RepPose: 1.1 M parameters, of which 1.0 M are left after merging; `width` scales the channels."""
    *channels, hidden = scaled((*CHANNELS, HEAD_CHANNELS), width)
    body = Stages([_stage(*sizes) for sizes in zip((3, *channels[:-1]), channels, DEPTHS, strict=True)])
    return RepPose(body, PyramidHead(channels[1:], num_keypoints, hidden=hidden, attention=attention))
