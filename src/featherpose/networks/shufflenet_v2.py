"""ShuffleNetV2 with SimpleBaseline's head.

ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al. 2018,
https://arxiv.org/abs/1807.11164; names of submodules as in mmpose's checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.layers import ConvUnit, ShuffleUnit

STEM_CHANNELS, LAST_CHANNELS = 24, 1024
STAGES = ((116, 4), (232, 8), (464, 4))  # channels and units at width 1x (paper, table 5)


class ShuffleNetV2(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 1024, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = [STEM_CHANNELS, *(channels for channels, _ in STAGES)]
        stages = [_stage(i, channels, units) for i, (channels, units) in zip(inputs, STAGES, strict=False)]
        self.layers = nn.Sequential(*stages, ConvUnit(inputs[-1], LAST_CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.maxpool(self.conv1(x)))


def _stage(in_channels: int, channels: int, units: int) -> nn.Sequential:
    first = ShuffleUnit(in_channels, channels, stride=2)
    return nn.Sequential(first, *(ShuffleUnit(channels, channels) for _ in range(units - 1)))


def shufflenet_v2(num_keypoints: int = 17) -> PoseNetwork:
    """ShuffleNetV2 (1x) and three transposed convolutions: 7.55 M parameters."""
    return PoseNetwork(ShuffleNetV2(), DeconvolutionHead(LAST_CHANNELS, num_keypoints))
