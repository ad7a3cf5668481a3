"""Normalization of uint8 crops: the same step in training and in the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# ImageNet mean and standard deviation of RGB / 255
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Crops uint8 (N, H, W, 3) RGB -> float32 (N, 3, H, W): (x / 255 - mean) / std of ImageNet."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # constants, not weights: not part of the state dict
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        channels_first = crops.permute(0, 3, 1, 2).float()  # (N, 3, H, W), values 0 to 255
        return (channels_first - self.mean) / self.std  # (N, 3, H, W)


def normalize(crops: Tensor) -> Tensor:
    """Crops uint8 (N, H, W, 3) RGB -> float32 (N, 3, H, W) in channels_last layout, normalized as by `Normalize`."""
    return Normalize().to(crops.device)(crops)
