"""A trained network as a teacher: its heatmaps are a second target beside the labels (Hinton et al. 2015).

The teacher sees the very crop that the student sees. Its joints must be the student's, and its heatmaps as large.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from featherpose import weights
from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights, read_facts
from featherpose.recipes.recipe import Distill
from featherpose.skeleton import Skeleton
from featherpose.training.losses import Loss

LABELS = "labels"
"""The teacher whose joints lie beside the data; it speaks through the targets, not through a network."""


class Teacher:
    """A frozen network that adds its own target: `share` of the loss is the distance to its heatmaps."""

    def __init__(self, network: nn.Module, share: float) -> None:
        self.network = network.eval().requires_grad_(False)
        self.share = share

    def loss(self, loss_of: Loss, images: Tensor, heatmaps: Tensor, labels_loss: Tensor) -> Tensor:
        """Normalised pictures, the student's heatmaps and its loss to the labels -> the loss to both."""
        with torch.no_grad():
            targets = self.network(images).float()
        if targets.shape != heatmaps.shape[-4:]:
            raise ModelError(
                f"The teacher's heatmaps are {tuple(targets.shape[2:])}, the student's {tuple(heatmaps.shape[-2:])} "
                "(height, width); take a teacher of the same stride."
            )
        everywhere = torch.ones(targets.shape[:2], device=targets.device)
        return (1 - self.share) * labels_loss + self.share * loss_of(heatmaps, targets, everywhere)


def open_teacher(distill: Distill, skeleton: Skeleton, device: torch.device) -> Teacher | None:
    """The recipe's `distill:` and the student's skeleton -> its teacher, or None where no network teaches."""
    if distill.teacher in ("", LABELS):
        return None
    path = weights.find(distill.teacher, ".safetensors")
    return Teacher(_network(path, skeleton).to(device).to(memory_format=torch.channels_last), distill.weight)  # pyright: ignore[reportCallIssue]


def _network(path: Path, skeleton: Skeleton) -> nn.Module:
    facts = read_facts(path)
    if not facts.keys() >= {"network", "skeleton"}:
        raise ModelError(
            f"{path} does not say which network it is; a teacher is a file that `featherpose train` wrote."
        )
    theirs = Skeleton.from_dict(facts["skeleton"])
    if theirs.keypoint_names != skeleton.keypoint_names:
        raise ModelError(f"{path} finds the joints of {theirs.name}, wanted those of {skeleton.name}, in their order.")
    network = create_network(facts["network"], skeleton.num_keypoints, **facts.get("options", {}))
    load_weights(network, path)
    return network
