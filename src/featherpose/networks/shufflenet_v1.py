"""ShuffleNetV1 with SimpleBaseline's head.

ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, Zhang et al. 2018,
https://arxiv.org/abs/1707.01083; names of submodules as in mmpose's checkpoints. As in the authors' code, channels are
shuffled after the depthwise convolution, not before it, and the very first 1x1 is not grouped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.layers import ConvUnit

GROUPS = 3
STEM_CHANNELS = 24
STAGES = ((240, 4), (480, 8), (960, 4))  # channels and units at width 1x with three groups (paper, table 1)
NORM_BIAS = 1e-4  # initial bias of the norms (authors' code)


class GroupUnit(nn.Module):
    """Grouped 1x1, depthwise 3x3, shuffle, grouped 1x1 (paper, figure 2b, c).

    Stride 1: (N, C, H, W) -> same shape, with the input added. Stride 2: (N, C_in, H, W) -> (N, C, H/2, W/2), with the
    average-pooled input concatenated.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, groups: int = GROUPS) -> None:
        super().__init__()
        hidden = channels // 4
        # With stride 2 the input is concatenated, so that the convolutions give only the other channels.
        branch_channels = channels if stride == 1 else channels - in_channels
        self.g_conv_1x1_compress = ConvUnit(in_channels, hidden, groups=groups)
        self.depthwise_conv3x3_bn = ConvUnit(hidden, hidden, 3, stride=stride, depthwise=True, activation=None)
        self.g_conv_1x1_expand = ConvUnit(hidden, branch_channels, groups=GROUPS, activation=None)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.g_conv_1x1_compress(x)  # (N, C/4, H, W)
        y = self.depthwise_conv3x3_bn(y)  # (N, C/4, H / stride, W / stride)
        y = channel_shuffle(y, GROUPS)
        y = self.g_conv_1x1_expand(y)  # (N, C, H, W), or (N, C - C_in, H/2, W/2)
        if self.stride == 1:
            return (x + y).relu_()
        pooled = nn.functional.avg_pool2d(x, 3, 2, 1)  # (N, C_in, H/2, W/2)
        return torch.cat((pooled, y.relu_()), 1)  # (N, C, H/2, W/2)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle: (N, C, H, W) with channels ordered by group -> one channel of each group in turn."""
    grouped = x.unflatten(1, (groups, -1))  # (N, groups, C / groups, H, W)
    return grouped.transpose(1, 2).flatten(1, 2)  # (N, C, H, W)


class ShuffleNetV1(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 960, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential()
        in_channels = STEM_CHANNELS
        for number, (channels, units) in enumerate(STAGES):
            # The stem has too few channels for a grouped 1x1 (paper, section 3.2).
            groups = 1 if number == 0 else GROUPS
            self.layers.append(_stage(in_channels, channels, units, groups=groups))
            in_channels = channels

    def init_weights(self) -> None:
        """Standard deviation 0.01 in the stem, else 1 / input channels per group; norms: weight 1, bias 0.0001."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                std = 0.01 if part is self.conv1.conv else 1 / part.weight.shape[1]
                nn.init.normal_(part.weight, std=std)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()
                nn.init.constant_(part.bias, NORM_BIAS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (N, 24, H/2, W/2)
        x = self.maxpool(x)  # (N, 24, H/4, W/4)
        return self.layers(x)  # (N, 960, H/32, W/32)


def _stage(in_channels: int, channels: int, units: int, *, groups: int) -> nn.Sequential:
    first = GroupUnit(in_channels, channels, stride=2, groups=groups)
    others = [GroupUnit(channels, channels) for _ in range(units - 1)]
    return nn.Sequential(first, *others)


def shufflenet_v1(num_keypoints: int = 17) -> PoseNetwork:
    """ShuffleNetV1 (1x, three groups) and three transposed convolutions: 6.95 M parameters."""
    return PoseNetwork(ShuffleNetV1(), DeconvolutionHead(STAGES[-1][0], num_keypoints))
