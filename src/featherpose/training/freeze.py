"""Frozen stages: the first stages of a pretrained backbone are not trained.

They have the largest feature maps and detect edges and corners, which are the same in all images; without their
gradients a step is shorter (`frozen_stages` is the name used by mmpose).
"""

from __future__ import annotations

from torch import nn

from featherpose.errors import RecipeError
from featherpose.networks.fpn import Stages
from featherpose.recipes.recipe import Recipe


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """Freeze the first `frozen_stages` of the backbone: no gradients, and normalization layers in eval mode.

    Call after `network.train()`, which would set those layers to training mode again. RecipeError without pretrained
    weights, for a backbone without stages, or for one with too few.
    """
    if not recipe.frozen_stages:
        return
    if not recipe.pretrained:
        raise RecipeError("frozen_stages: would freeze randomly initialized weights; set pretrained.")
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Stages):
        raise RecipeError(f"frozen_stages: the backbone of {recipe.network} has no stages; remove frozen_stages.")
    if recipe.frozen_stages > len(backbone.stages):
        raise RecipeError(
            f"frozen_stages is {recipe.frozen_stages}; the backbone of {recipe.network} has {len(backbone.stages)}."
        )
    for stage in backbone.stages[: recipe.frozen_stages]:
        stage.eval().requires_grad_(False)
