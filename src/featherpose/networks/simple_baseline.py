"""SimpleBaseline: a ResNet and three transposed convolutions.

Simple Baselines for Human Pose Estimation and Tracking, Xiao et al. 2018, https://arxiv.org/abs/1804.06208; names of
submodules as in mmpose's checkpoints, which are the official ones with the prefixes `backbone.` and `keypoint_head.`.
"""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork
from featherpose.networks.layers import Bottleneck, relu

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # per stage (He et al. 2016, table 1)


class ResNet(nn.Module):
    """The backbone: image (N, 3, H, W) -> (N, 2048, H/32, W/32)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = relu()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        in_channels = 64
        for stage, blocks in enumerate(BLOCKS[depth]):
            channels = 64 * 2**stage
            stride = 1 if stage == 0 else 2  # the pooling before the first stage halves the resolution already
            self.add_module(f"layer{stage + 1}", _stage(in_channels, channels, blocks, stride))
            in_channels = channels * Bottleneck.expansion

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():  # conv1, bn1, relu, maxpool, layer1 to layer4
            x = layer(x)  # at 1/2 (conv1), 1/4 (maxpool, layer1), 1/8, 1/16, 1/32 of the input
        return x  # (N, 2048, H/32, W/32)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride)
    others = [Bottleneck(channels * Bottleneck.expansion, channels) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def simple_baseline(depth: int, num_keypoints: int) -> PoseNetwork:
    """SimpleBaseline with a ResNet of `depth` 50, 101 or 152."""
    return PoseNetwork(ResNet(depth), DeconvolutionHead(2048, num_keypoints))


def simple_baseline_resnet50(num_keypoints: int = 17) -> PoseNetwork:
    """SimpleBaseline with ResNet-50: 34.0 M parameters."""
    return simple_baseline(50, num_keypoints)


def simple_baseline_resnet101(num_keypoints: int = 17) -> PoseNetwork:
    """SimpleBaseline with ResNet-101: 53.0 M parameters."""
    return simple_baseline(101, num_keypoints)


def simple_baseline_resnet152(num_keypoints: int = 17) -> PoseNetwork:
    """SimpleBaseline with ResNet-152: 68.6 M parameters."""
    return simple_baseline(152, num_keypoints)
