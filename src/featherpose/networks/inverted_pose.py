"""InvertedPose: inverted residuals with ReLU, attention on four resolutions.

The blocks are MobileNetV2's (Sandler et al. 2018, section 3.3, https://arxiv.org/abs/1801.04381) with expansion 3. The
head applies the idea of CBAM-LiteHRNet: attention on every resolution before the last layer.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from featherpose.networks.fpn import FPNHead, Stages, scaled
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.layers import ConvUnit, relu
from featherpose.networks.mobilenet_v2 import InvertedResidual

CHANNELS = (16, 32, 48, 96, 160)  # at 1/2, 1/4, 1/8, 1/16, 1/32 of the input
DEPTHS = (2, 3, 4, 3)  # blocks at 1/4 to 1/32, the first with stride 2; at 1/2 there is one convolution
HEAD_CHANNELS = 48
EXPANSION = 3


def _stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    block = partial(InvertedResidual, expansion=EXPANSION, activation=relu)
    first = block(in_channels, channels, stride=2)
    others = [block(channels, channels, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(first, *others)


def inverted_pose(num_keypoints: int = 17, *, width: float = 1.0, attention: str = "cbam") -> PoseNetwork:
    """InvertedPose: 0.7 M parameters; `width` scales the channels."""
    *channels, hidden = scaled((*CHANNELS, HEAD_CHANNELS), width)
    stem = ConvUnit(3, channels[0], 3, stride=2)
    sizes = zip(channels[:-1], channels[1:], DEPTHS, strict=True)
    stages = [_stage(in_channels, out_channels, depth) for in_channels, out_channels, depth in sizes]
    head = FPNHead(channels[1:], num_keypoints, hidden=hidden, attention=attention)
    return PoseNetwork(Stages([stem, *stages]), head)
