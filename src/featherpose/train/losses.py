"""Losses between heatmaps of the network and of the codec."""

from __future__ import annotations

from torch import Tensor


def mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Heatmaps and targets (N, K, h, w), weights (N, K) -> mean over all cells of the weighted squared error.

    As mmpose has it, and so Lite-HRNet's training; HRNet halves it. A joint of weight 0 counts as without error.
    """
    return (weights[..., None, None] * (heatmaps - targets) ** 2).mean()


LOSSES = {"mse": mse}
