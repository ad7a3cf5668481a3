"""Frozen stages: the first of a body that has learnt before, left as they are.

They work at the largest maps and see edges and corners, which are those of any photo; a step that leaves them out is
shorter (`frozen_stages` is mmpose's name for it).
"""

from __future__ import annotations

from torch import nn

from featherpose.errors import RecipeError
from featherpose.networks.fpn import Stages
from featherpose.recipes.recipe import Recipe


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """The first `frozen_stages` of the network's body take no gradient, and their norms keep what they have seen.

    To be called behind `network.train()`, which would wake the norms again. RecipeError for fresh weights, a body
    without stages, or one with too few.
    """
    if not recipe.frozen_stages:
        return
    if not recipe.pretrained:
        raise RecipeError("frozen_stages: fresh weights would stay as drawn; say with init what to start from.")
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Stages):
        raise RecipeError(f"frozen_stages: {recipe.network} is not made of stages; leave it out.")
    if recipe.frozen_stages > len(backbone.stages):
        raise RecipeError(f"frozen_stages is {recipe.frozen_stages}; {recipe.network} has {len(backbone.stages)}.")
    for stage in backbone.stages[: recipe.frozen_stages]:
        stage.eval().requires_grad_(False)
