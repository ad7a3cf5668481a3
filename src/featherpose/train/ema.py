"""Averaged weights: an exponential moving average of everything a network holds."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Average <- decay x average + (1 - decay) x model, running statistics too; the first steps count more.

    `decay` 0 copies the model.
    """
    kept = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - kept)  # pyright: ignore[reportPrivateImportUsage]
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
