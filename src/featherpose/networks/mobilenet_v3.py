"""MobileNetV3, small and large, with SimpleBaseline's head.

Searching for MobileNetV3, Howard et al. 2019, https://arxiv.org/abs/1905.02244, tables 1 and 2. The order of the
submodules and the settings of the norms are torchvision's, so that its ImageNet weights fit; weights are initialized
as in the authors' code (TensorFlow's slim models).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.initialize import init_truncated_normal
from featherpose.networks.layers import Activation, ConvUnit, relu

STEM_CHANNELS = 16
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables 1 and 2: one block."""

    kernel: int
    hidden: int
    channels: int
    squeeze: bool
    activation: Activation
    stride: int = 1


LARGE = (
    Row(3, 16, 16, False, relu),
    Row(3, 64, 24, False, relu, 2),
    Row(3, 72, 24, False, relu),
    Row(5, 72, 40, True, relu, 2),
    *[Row(5, 120, 40, True, relu)] * 2,
    Row(3, 240, 80, False, nn.Hardswish, 2),
    Row(3, 200, 80, False, nn.Hardswish),
    *[Row(3, 184, 80, False, nn.Hardswish)] * 2,
    Row(3, 480, 112, True, nn.Hardswish),
    Row(3, 672, 112, True, nn.Hardswish),
    Row(5, 672, 160, True, nn.Hardswish, 2),
    *[Row(5, 960, 160, True, nn.Hardswish)] * 2,
)
SMALL = (
    Row(3, 16, 16, True, relu, 2),
    Row(3, 72, 24, False, relu, 2),
    Row(3, 88, 24, False, relu),
    Row(5, 96, 40, True, nn.Hardswish, 2),
    *[Row(5, 240, 40, True, nn.Hardswish)] * 2,
    Row(5, 120, 48, True, nn.Hardswish),
    Row(5, 144, 48, True, nn.Hardswish),
    Row(5, 288, 96, True, nn.Hardswish, 2),
    *[Row(5, 576, 96, True, nn.Hardswish)] * 2,
)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation with C / 4 hidden channels (paper, section 5.3): (N, C, H, W) -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _make_divisible(channels // 4)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        hidden = self.fc1(mean).relu_()  # (N, hidden, 1, 1)
        gate = nn.functional.hardsigmoid(self.fc2(hidden))  # (N, C, 1, 1)
        return x * gate  # (N, C, H, W)


def _make_divisible(channels: int, divisor: int = 8) -> int:
    """Channels -> nearest multiple of the divisor, rounded up if it is below 90 % of them (authors' code)."""
    nearest = (channels + divisor // 2) // divisor * divisor
    nearest = max(divisor, nearest)
    if nearest < 0.9 * channels:
        return nearest + divisor
    return nearest


class Block(nn.Module):
    """Inverted residual with a gate before its last 1x1: (N, C_in, H, W) -> (N, C, H / stride, W / stride)."""

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        hidden = row.hidden
        activation = row.activation
        depthwise = partial(ConvUnit, stride=row.stride, depthwise=True, activation=activation)
        self.block = nn.Sequential()
        if hidden != in_channels:  # the first block expands nothing
            self.block.append(ConvUnit(in_channels, hidden, activation=activation))
        self.block.append(depthwise(hidden, hidden, row.kernel))
        if row.squeeze:
            self.block.append(SqueezeExcitation(hidden))
        self.block.append(ConvUnit(hidden, row.channels, activation=None))
        self.has_shortcut = row.stride == 1 and in_channels == row.channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)  # (N, C, H / stride, W / stride)
        return x + y if self.has_shortcut else y


class MobileNetV3(nn.Sequential):
    """The backbone: image (N, 3, H, W) -> (N, 6 x the last row's channels, H/32, W/32)."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(ConvUnit(3, STEM_CHANNELS, 3, stride=2, activation=nn.Hardswish))
        in_channels = STEM_CHANNELS
        for row in rows:
            self.append(Block(in_channels, row))
            in_channels = row.channels
        self.channels = 6 * in_channels
        self.append(ConvUnit(in_channels, self.channels, activation=nn.Hardswish))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = NORM_EPS
                part.momentum = NORM_MOMENTUM

    def init_weights(self) -> None:
        init_truncated_normal(self)


def mobilenet_v3(rows: Sequence[Row], num_keypoints: int) -> PoseNetwork:
    """MobileNetV3 with the given rows and three transposed convolutions."""
    backbone = MobileNetV3(rows)
    return PoseNetwork(backbone, DeconvolutionHead(backbone.channels, num_keypoints))


def mobilenet_v3_small(num_keypoints: int = 17) -> PoseNetwork:
    """MobileNetV3-Small and three transposed convolutions: 5.39 M parameters."""
    return mobilenet_v3(SMALL, num_keypoints)


def mobilenet_v3_large(num_keypoints: int = 17) -> PoseNetwork:
    """MobileNetV3-Large and three transposed convolutions: 9.01 M parameters."""
    return mobilenet_v3(LARGE, num_keypoints)
