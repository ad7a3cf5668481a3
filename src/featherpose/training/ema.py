"""EMA weights: an exponential moving average of all parameters and buffers of a network."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update(ema_network: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Average <- decay x average + (1 - decay) x model, including running statistics.

    In the first steps the decay is limited to (1 + step) / (10 + step). `decay` 0 copies the model.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for a, b in zip(ema_network.state_dict().values(), model.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - kept)
        else:
            a.copy_(b)
