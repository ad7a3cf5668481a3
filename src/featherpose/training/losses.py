"""Losses between heatmaps of the network and of the codec: (N, K, h, w) twice and weights (N, K) in, one number out.

Each is a mean over the people of a batch, so that the mean over equal parts of a batch is that of the whole. A joint
of weight 0 counts as without error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
HARDEST = 8
GAMMA = 0.01


def mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over all cells of the weighted squared error.

    As mmpose has it, and so Lite-HRNet's training; HRNet halves it.
    """
    return (weights[..., None, None] * (heatmaps - targets) ** 2).mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """`mse` over the eight joints of each person that are worst (online hard keypoint mining, Chen et al. 2018)."""
    errors = weights * ((heatmaps - targets) ** 2).mean((2, 3))
    return errors.topk(min(HARDEST, errors.shape[1]), dim=1).values.mean()


def focal(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared error weighted by how wrong a cell is, so that the empty majority does not drown the peaks.

    The weight is |1 - P| on a joint and |P| off it, blended by target^0.01 (Luo et al. 2021, equation 8), and held
    constant for the gradient.
    """
    on = targets.clamp(min=0) ** GAMMA
    error = (1 - heatmaps).abs().detach() * on + heatmaps.abs().detach() * (1 - on)
    return (weights[..., None, None] * error * (heatmaps - targets) ** 2).mean()


LOSSES: dict[str, Loss] = {"mse": mse, "ohkm": ohkm, "focal": focal}


def on_every_stage(loss: Loss) -> Loss:
    """A loss -> the same, but a mean over the stages of a network that gives heatmaps (S, N, K, h, w) of S stages.

    Intermediate supervision (Wei et al. 2016, section 3.3); the mean keeps the learning rate of a single stage.
    """

    def over_stages(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if heatmaps.ndim == targets.ndim:
            return loss(heatmaps, targets, weights)
        return torch.stack([loss(stage, targets, weights) for stage in heatmaps]).mean()

    return over_stages
