"""MobileNetV1 with SimpleBaseline's head.

MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, Howard et al. 2017,
https://arxiv.org/abs/1704.04861; with ReLU6 and the initialization of the authors' code (TensorFlow's slim models).
"""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.initialize import init_truncated_normal
from featherpose.networks.layers import ConvUnit, relu6

STEM_CHANNELS = 32
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # channels, blocks, stride (paper, table 1)


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3 and 1x1 convolution, each with norm and ReLU6 (paper, figure 3).

    (N, C_in, H, W) -> (N, C, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvUnit(in_channels, in_channels, 3, stride=stride, depthwise=True, activation=relu6)
        self.pointwise = ConvUnit(in_channels, channels, activation=relu6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x)  # (N, C_in, H / stride, W / stride)
        return self.pointwise(x)  # (N, C, H / stride, W / stride)


class MobileNetV1(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 1024, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2, activation=relu6)
        self.layers = nn.Sequential()
        in_channels = STEM_CHANNELS
        for channels, blocks, stride in STAGES:
            self.layers.append(_stage(in_channels, channels, blocks, stride))
            in_channels = channels

    def init_weights(self) -> None:
        init_truncated_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (N, 32, H/2, W/2)
        return self.layers(x)  # (N, 1024, H/32, W/32)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = DepthwiseSeparable(in_channels, channels, stride)
    others = [DepthwiseSeparable(channels, channels) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def mobilenet_v1(num_keypoints: int = 17) -> PoseNetwork:
    """MobileNetV1 (1x) and three transposed convolutions: 9.51 M parameters."""
    return PoseNetwork(MobileNetV1(), DeconvolutionHead(STAGES[-1][0], num_keypoints))
