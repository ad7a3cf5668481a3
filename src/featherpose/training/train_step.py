"""Forward and backward pass of one batch, in the precision that the recipe sets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherpose.networks.preprocess import Normalize
from featherpose.recipes.recipe import Recipe
from featherpose.training.distill import Teacher
from featherpose.training.losses import LOSSES, on_every_stage


class TrainStep:
    """Accumulates the gradients of a batch in the network, part by part."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, teacher: Teacher | None, device: torch.device, compiled: bool = False
    ) -> None:
        self._network = torch.compile(network, mode=_mode(device)) if compiled else network
        self._normalize = Normalize().to(device)
        self._loss = on_every_stage(LOSSES[recipe.loss])
        self._teacher = teacher
        self._device = device
        self._bf16 = recipe.precision == "bf16"

    def __call__(self, crops: Tensor, targets: Tensor, weights: Tensor, parts: int = 1) -> Tensor:
        """Crops uint8 (B, H, W, 3), heatmaps (B, K, h, w), weights (B, K) -> loss, averaged over the `parts`."""
        c, t, w = (tensor.to(self._device, non_blocking=True).chunk(parts) for tensor in (crops, targets, weights))
        losses = [self._backward(*part, parts) for part in zip(c, t, w, strict=True)]
        return torch.stack(losses).sum()

    def _backward(self, crops: Tensor, targets: Tensor, weights: Tensor, parts: int) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            images = self._normalize(crops)
            heatmaps = self._network(images).float()
            loss = self._loss(heatmaps, targets, weights)
            if self._teacher:
                loss = self._teacher.loss(self._loss, images, heatmaps, loss)
        loss = loss / parts
        loss.backward()
        return loss.detach()


def _mode(device: torch.device) -> str:
    """Mode of torch.compile: CUDA graphs on a GPU, where small networks are limited by kernel launches."""
    return "reduce-overhead" if device.type == "cuda" else "default"
