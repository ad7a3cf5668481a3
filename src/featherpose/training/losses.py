"""Losses: predicted heatmaps (N, K, h, w), target heatmaps (N, K, h, w) and weights (N, K) -> scalar.

Each is a mean over the samples of a batch, so that the mean over equal parts of a batch equals that of the whole batch.
A keypoint of weight 0 counts as one without error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
HARDEST = 8  # keypoints of a sample that `ohkm` keeps
GAMMA = 0.01  # exponent of the target in `focal`


def mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over all cells of the weighted squared error.

    As in mmpose, and therefore in Lite-HRNet's training; HRNet uses half of it.
    """
    errors = weights[..., None, None] * (heatmaps - targets) ** 2  # (N, K, h, w)
    return errors.mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """`mse` over the eight keypoints of each sample with the largest error.

    Online hard keypoint mining (Chen et al. 2018).
    """
    errors = weights * ((heatmaps - targets) ** 2).mean((2, 3))  # (N, K)
    num_kept = min(HARDEST, errors.shape[1])
    hardest = errors.topk(num_kept, dim=1).values  # (N, num_kept)
    return hardest.mean()


def focal(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared error weighted by the error of a cell, so that the many background cells do not dominate the peaks.

    The weight is |1 - P| at a keypoint and |P| in the background, blended by target^0.01 (Luo et al. 2021, equation 8),
    and treated as constant in the gradient.
    """
    # A small power is near 1 on most of the Gaussian, far beyond its peak, and 0 where the target is 0.
    on = targets.clamp(min=0) ** GAMMA  # (N, K, h, w)
    # Detached: the gradient could otherwise shrink the weight instead of the error.
    error = (1 - heatmaps).abs().detach() * on + heatmaps.abs().detach() * (1 - on)
    errors = weights[..., None, None] * error * (heatmaps - targets) ** 2  # (N, K, h, w)
    return errors.mean()


LOSSES: dict[str, Loss] = {"mse": mse, "ohkm": ohkm, "focal": focal}


def on_every_stage(loss: Loss) -> Loss:
    """Loss -> its mean over the stages, for networks that return the heatmaps (S, N, K, h, w) of S stages.

    Intermediate supervision (Wei et al. 2016, section 3.3); with the mean, the learning rate of one stage applies.
    """

    def over_stages(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if heatmaps.ndim == targets.ndim:
            return loss(heatmaps, targets, weights)
        return torch.stack([loss(stage, targets, weights) for stage in heatmaps]).mean()

    return over_stages
