"""EMA weights: an exponential moving average of all parameters and buffers of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Updates the EMA network of a run after each step.

    The tensors of both networks are listed once: `state_dict` of a network with a thousand tensors takes longer than
    their update. Weights must therefore be changed in place, as optimizers and `load_state_dict` do.
    """

    def __init__(self, ema_network: nn.Module, network: nn.Module) -> None:
        pairs = list(zip(ema_network.state_dict().values(), network.state_dict().values(), strict=True))
        self._averages: list[Tensor] = [average for average, _ in pairs if average.is_floating_point()]
        self._weights: list[Tensor] = [weight for average, weight in pairs if average.is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, decay: float, step: int) -> None:
        """Average <- decay x average + (1 - decay) x network, running statistics included; counts are copied.

        In the first steps the decay is limited to (1 + step) / (10 + step). `decay` 0 copies the network.
        """
        kept = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
            self._averages, self._weights, 1 - kept
        )
        for average, count in self._counts:
            average.copy_(count)
