"""Forward and backward pass of one batch, in the precision that the recipe sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featherpose.networks.preprocess import Normalize
from featherpose.training.task import Batch

TaskLoss = Callable[[Tensor, Any, Batch], Tensor]
"""Normalized images (B, 3, H, W), outputs of the network, targets -> loss, a scalar (`Task.loss`)."""


class TrainStep:
    """Accumulates the gradients of a batch in the network, part by part."""

    def __init__(
        self,
        network: nn.Module,
        loss: TaskLoss,
        device: torch.device,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        self._network = torch.compile(network, mode=_mode(device)) if compiled else network
        self._normalize = Normalize().to(device)
        self._loss = loss
        self._device = device
        self._bf16 = precision == "bf16"

    def __call__(self, batch: Batch, parts: int = 1) -> Tensor:
        """Images uint8 (B, H, W, 3) and targets (B, ...) -> loss, averaged over the `parts`."""
        chunks = [tensor.to(self._device, non_blocking=True).chunk(parts) for tensor in batch]
        losses = [self._backward(images, targets, parts) for images, *targets in zip(*chunks, strict=True)]
        return torch.stack(losses).sum()

    def _backward(self, pixels: Tensor, targets: list[Tensor], parts: int) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            images = self._normalize(pixels)
            loss = self._loss(images, self._network(images), tuple(targets))
        loss = loss / parts
        loss.backward()
        return loss.detach()


def _mode(device: torch.device) -> str:
    """Mode of torch.compile: CUDA graphs on a GPU, where small networks are limited by kernel launches."""
    return "reduce-overhead" if device.type == "cuda" else "default"
