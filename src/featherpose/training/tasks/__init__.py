"""What can be trained: one task for each kind of recipe."""

from __future__ import annotations

import torch

from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.recipe import Recipe
from featherpose.training.task import Task
from featherpose.training.tasks.detector import DetectorTask, check_detector
from featherpose.training.tasks.pose import PoseTask, check_pose


def open_task(recipe: Recipe, device: torch.device) -> Task:
    """Recipe -> its task, with the labels read; DataError and ModelError where data or teacher do not fit it."""
    if isinstance(recipe, DetectorRecipe):
        return DetectorTask(recipe)
    assert isinstance(recipe, PoseRecipe)
    return PoseTask(recipe, device)


def check(recipe: Recipe) -> int:
    """Recipe -> number of parameters of its network; raises the error that training would raise before its first step.

    The network is built without weights, the pretrained weights and the data set are located.
    """
    if isinstance(recipe, DetectorRecipe):
        return check_detector(recipe)
    assert isinstance(recipe, PoseRecipe)
    return check_pose(recipe)
