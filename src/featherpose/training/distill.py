"""Distillation: the heatmaps of a trained network (the teacher) are a second target (Hinton et al. 2015).

Teacher and student see the same augmented crop. Their keypoints and their heatmap sizes must be equal.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from featherpose import weights
from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights, read_facts
from featherpose.recipes.pose import Distill
from featherpose.skeleton import Skeleton
from featherpose.training.losses import Loss

LABELS = "labels"
"""The teacher whose pseudo-labels are stored with the data set: part of the targets, without a network."""


class Teacher:
    """A frozen network whose heatmaps are a second target: their loss has the weight `share`."""

    def __init__(self, network: nn.Module, share: float) -> None:
        self.network = network.eval().requires_grad_(False)
        self.share = share

    def loss(self, loss_of: Loss, images: Tensor, heatmaps: Tensor, labels_loss: Tensor) -> Tensor:
        """Normalized images, the student's heatmaps and its loss on the labels -> total loss with the teacher's.

        ModelError if the heatmaps differ in size.
        """
        with torch.no_grad():
            targets = self.network(images).float()
        if targets.shape != heatmaps.shape[-4:]:
            raise ModelError(
                f"The teacher's heatmaps are {tuple(targets.shape[2:])}, the student's {tuple(heatmaps.shape[-2:])} "
                "(height, width); use a teacher with the same stride."
            )
        everywhere = torch.ones(targets.shape[:2], device=targets.device)
        return (1 - self.share) * labels_loss + self.share * loss_of(heatmaps, targets, everywhere)


def open_teacher(distill: Distill, skeleton: Skeleton, device: torch.device) -> Teacher | None:
    """The recipe's `distill` section and the student's skeleton -> the teacher, or None without a teacher network.

    ModelError for a file that does not name its network, or a teacher with other keypoints.
    """
    if distill.teacher in ("", LABELS):
        return None
    path = weights.find(distill.teacher, ".safetensors")
    return Teacher(_network(path, skeleton).to(device).to(memory_format=torch.channels_last), distill.weight)  # pyright: ignore[reportCallIssue]


def _network(path: Path, skeleton: Skeleton) -> nn.Module:
    facts = read_facts(path)
    if not facts.keys() >= {"network", "skeleton"}:
        raise ModelError(f"{path} does not name its network; a teacher must be a file written by `featherpose train`.")
    teacher_skeleton = Skeleton.from_dict(facts["skeleton"])
    if teacher_skeleton.keypoint_names != skeleton.keypoint_names:
        raise ModelError(
            f"{path} has the keypoints of {teacher_skeleton.name}; wanted those of {skeleton.name}, in this order."
        )
    network = create_network(facts["network"], skeleton.num_keypoints, **facts.get("options", {}))
    load_weights(network, path)
    return network
