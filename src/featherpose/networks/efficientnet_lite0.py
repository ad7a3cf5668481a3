"""EfficientNet-Lite0 as a backbone: EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without
squeeze-and-excitation and with ReLU6, the authors' version for phones (tensorflow/tpu, `lite`).

The last block of 192 channels, the one of 320 and the classifier's 1x1 are left out: they take a tenth of the run time
and encode what an image shows rather than where. Strided convolutions are padded on both sides, where the published
network pads one: the same features, shifted by one pixel.
"""

from __future__ import annotations

from torch import nn

from featherpose.networks.layers import ConvUnit, relu6
from featherpose.networks.mobilenet_v2 import InvertedResidual

STEM_CHANNELS = 32
# At 1/2, 1/4, 1/8, 1/16, 1/32 of the input: expansion, channels, kernel, blocks. From 1/4 on, the first block of a
# stage has stride 2.
STAGES = (
    ((1, 16, 3, 1),),
    ((6, 24, 3, 2),),
    ((6, 40, 5, 2),),
    ((6, 80, 3, 3), (6, 112, 5, 3)),
    ((6, 192, 5, 3),),
)
CHANNELS = tuple(stage[-1][1] for stage in STAGES[1:])  # of the maps at 1/4 and below
EPSILON = 1e-3  # of the batch norms, as published


def efficientnet_lite0() -> list[nn.Sequential]:
    """The stages for an image (N, 3, H, W): maps of 16, 24, 40, 112, 192 channels at 1/2 to 1/32 of the input."""
    stages = [nn.Sequential(ConvUnit(3, STEM_CHANNELS, 3, stride=2, activation=relu6))]
    stages += [nn.Sequential() for _ in STAGES[1:]]
    in_channels = STEM_CHANNELS
    for stage, sizes in zip(stages, STAGES, strict=True):
        for expansion, channels, kernel, blocks in sizes:
            for _ in range(blocks):
                # The first stage begins with the stem, which has the stride; the others are still empty here.
                stride = 2 if len(stage) == 0 else 1
                stage.append(InvertedResidual(in_channels, channels, expansion=expansion, stride=stride, kernel=kernel))
                in_channels = channels
    for part in nn.ModuleList(stages).modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = EPSILON
    return stages
