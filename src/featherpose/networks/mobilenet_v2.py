"""MobileNetV2 with SimpleBaseline's head.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al. 2018, https://arxiv.org/abs/1801.04381; names of
submodules as in mmpose's checkpoints, where three transposed convolutions follow the last 1x1 of the classifier.
"""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.layers import Activation, ConvUnit, relu6

STEM_CHANNELS = 32
LAST_CHANNELS = 1280  # of the classifier's 1x1
STAGES = (  # expansion, channels, blocks, stride of the first (paper, table 2)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, a depthwise convolution, 1x1 without activation (paper, section 3.3).

    (N, C_in, H, W) -> (N, C, H / stride, W / stride), with a shortcut if the output has the shape of the input.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        expansion: int,
        stride: int,
        kernel: int = 3,
        activation: Activation = relu6,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential()
        if expansion > 1:
            self.conv.append(ConvUnit(in_channels, hidden, activation=activation))
        self.conv.append(ConvUnit(hidden, hidden, kernel, stride=stride, depthwise=True, activation=activation))
        # An activation here would lose information in the few channels of the output (paper, section 3.2).
        self.conv.append(ConvUnit(hidden, channels, activation=None))
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)  # (N, C, H / stride, W / stride)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 1280, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2, activation=relu6)
        in_channels = STEM_CHANNELS
        for stage, (expansion, channels, blocks, stride) in enumerate(STAGES, 1):
            self.add_module(f"layer{stage}", _stage(in_channels, channels, expansion, blocks, stride))
            in_channels = channels
        self.conv2 = ConvUnit(in_channels, LAST_CHANNELS, activation=relu6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():  # conv1, layer1 to layer7, conv2
            x = layer(x)  # at 1/2, 1/2, 1/4, 1/8, 1/16, 1/16, 1/32, 1/32, 1/32 of the input
        return x  # (N, 1280, H/32, W/32)


def _stage(in_channels: int, channels: int, expansion: int, blocks: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(in_channels, channels, expansion=expansion, stride=stride)
    others = [InvertedResidual(channels, channels, expansion=expansion, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def mobilenet_v2(num_keypoints: int = 17) -> PoseNetwork:
    """MobileNetV2 (1x) and three transposed convolutions: 9.57 M parameters."""
    return PoseNetwork(MobileNetV2(), DeconvolutionHead(LAST_CHANNELS, num_keypoints))
