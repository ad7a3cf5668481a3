"""One batch forward and back: gradients in the network, the loss out. What the recipe says about precision is here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherpose.networks.preprocess import Normalize
from featherpose.recipes.recipe import Recipe
from featherpose.training.distill import Teacher
from featherpose.training.losses import LOSSES, on_every_stage


class TrainStep:
    """Adds the gradients of a batch to the network's weights, part by part."""

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
        """Crops uint8 (B, H, W, 3), heatmaps (B, K, h, w), weights (B, K) -> the loss, a mean over the `parts`."""
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
    """On a GPU whole steps are recorded and replayed (CUDA graphs): small networks wait for their launches."""
    return "reduce-overhead" if device.type == "cuda" else "default"
