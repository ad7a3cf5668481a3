"""ShuffleNetV2 with SimpleBaseline's head.

ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al. 2018,
https://arxiv.org/abs/1807.11164; names of submodules as in mmpose's checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.layers import ConvUnit, ShuffleUnit

STEM_CHANNELS = 24
LAST_CHANNELS = 1024  # of the 1x1 after the stages
STAGES = ((116, 4), (232, 8), (464, 4))  # channels and units at width 1x (paper, table 5)


class ShuffleNetV2(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 1024, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential()
        in_channels = STEM_CHANNELS
        for channels, units in STAGES:
            self.layers.append(_stage(in_channels, channels, units))
            in_channels = channels
        self.layers.append(ConvUnit(in_channels, LAST_CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (N, 24, H/2, W/2)
        x = self.maxpool(x)  # (N, 24, H/4, W/4)
        return self.layers(x)  # (N, 1024, H/32, W/32)


def _stage(in_channels: int, channels: int, units: int) -> nn.Sequential:
    first = ShuffleUnit(in_channels, channels, stride=2)
    others = [ShuffleUnit(channels, channels) for _ in range(units - 1)]
    return nn.Sequential(first, *others)


def shufflenet_v2(num_keypoints: int = 17) -> PoseNetwork:
    """ShuffleNetV2 (1x) and three transposed convolutions: 7.55 M parameters."""
    return PoseNetwork(ShuffleNetV2(), DeconvolutionHead(LAST_CHANNELS, num_keypoints))
