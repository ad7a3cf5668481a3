"""Convolutional Pose Machines: every stage reads the image features and the heatmaps of the previous stage.

Convolutional Pose Machines, Wei et al. 2016, https://arxiv.org/abs/1602.00134, section 3; names of submodules as in
mmpose's checkpoints, whose code has a batch norm after every convolution and six stages. Heatmaps have stride 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featherpose.networks.heads import PoseNetwork
from featherpose.networks.initialize import init_normal
from featherpose.networks.layers import ConvUnit

CHANNELS = 128  # of most layers
HIDDEN = 512  # of the first stage's classifier
FEATURES = 32  # of the image features that the later stages read
LATER_STAGES = 5


class Refinement(nn.Module):
    """Three 11x11 convolutions: features and the previous heatmaps (N, C, h, w) -> (N, 128, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        inputs = (in_channels, CHANNELS, CHANNELS)
        self.model = nn.Sequential(*(ConvUnit(i, CHANNELS, 11) for i in inputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # (N, 128, h, w)


class CPM(nn.Module):
    """The stages: image (N, 3, H, W) -> list of the heatmaps (N, K, H/8, W/8) of all six stages, in order."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_downsampling_layers(),
            ConvUnit(CHANNELS, FEATURES, 5),
            ConvUnit(FEATURES, HIDDEN, 9),
            ConvUnit(HIDDEN, HIDDEN),
            ConvUnit(HIDDEN, num_keypoints, norm=False, activation=None),
        )
        self.middle = nn.Sequential(*_downsampling_layers())
        stages = range(LATER_STAGES)
        self.cpm_stages = nn.ModuleList(Refinement(FEATURES + num_keypoints) for _ in stages)
        self.middle_conv = nn.ModuleList(nn.Sequential(ConvUnit(CHANNELS, FEATURES, 5)) for _ in stages)
        self.out_convs = nn.ModuleList(_classifier(num_keypoints) for _ in stages)

    def init_weights(self) -> None:
        init_normal(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        heatmaps = [self.stem(x)]  # (N, K, H/8, W/8)
        features = self.middle(x)  # (N, 128, H/8, W/8)
        for reduce_features, refine, classify in zip(self.middle_conv, self.cpm_stages, self.out_convs, strict=True):
            inputs = torch.cat((heatmaps[-1], reduce_features(features)), 1)  # (N, K + 32, H/8, W/8)
            heatmaps.append(classify(refine(inputs)))  # (N, K, H/8, W/8)
        return heatmaps


def _downsampling_layers() -> list[nn.Module]:
    """Layers from the image (N, 3, H, W) to (N, 128, H/8, W/8)."""
    layers: list[nn.Module] = []
    for in_channels in (3, CHANNELS, CHANNELS):
        layers += [ConvUnit(in_channels, CHANNELS, 9), nn.MaxPool2d(3, 2, 1)]
    return layers


def _classifier(num_keypoints: int) -> nn.Sequential:
    last = ConvUnit(CHANNELS, num_keypoints, norm=False, activation=None)
    return nn.Sequential(ConvUnit(CHANNELS, CHANNELS), last)


class IntermediateSupervision(nn.Module):
    """Heatmaps of S stages -> in train mode all of them (S, N, K, h, w) for the loss, else the last (N, K, h, w).

    Without a loss per stage, the early stages would get almost no gradient (paper, section 3.3).
    """

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        if self.training:
            return torch.stack(list(stages))  # (S, N, K, h, w)
        return stages[-1]  # (N, K, h, w)


class PoseMachine(PoseNetwork):
    """Normalized image (N, 3, H, W) -> heatmaps (N, K, H/8, W/8); in train mode those of all S stages, S first."""

    stride = 8
    multiple = 8


def cpm(num_keypoints: int = 17) -> PoseMachine:
    """Convolutional Pose Machines with six stages and heatmaps of stride 8: 31.3 M parameters."""
    return PoseMachine(CPM(num_keypoints), IntermediateSupervision())
