"""Check of a recipe without running it: the network is built, the weights and the data set are located."""

from __future__ import annotations

import torch

from featherpose import weights
from featherpose.data.folder import find_data
from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.recipes.recipe import Recipe
from featherpose.skeleton import SKELETONS
from featherpose.training.freeze import freeze
from featherpose.training.tasks import pose


def check(recipe: Recipe) -> int:
    """Recipe -> number of parameters of its network; raises the error that `train` would raise, if any."""
    find_data(recipe.data.folder)
    if recipe.pretrained:
        weights.find_pretrained(recipe.pretrained)
    num_keypoints = SKELETONS[recipe.skeleton].num_keypoints if recipe.skeleton in SKELETONS else 17
    with torch.device("meta"):
        network = create_network(recipe.network, num_keypoints, **recipe.options).eval()
        freeze(network, recipe)
        for stage in recipe.stages:
            maps = network(torch.empty(1, 3, *stage.input_size.shape)).shape[2:]
            wanted = pose.codec_of(recipe, stage).heatmap_size
            if tuple(maps) != wanted.shape:
                raise ModelError(
                    f"{recipe.network} outputs {maps[0]}x{maps[1]} heatmaps for input {stage.input_size};"
                    f" the codec wants {wanted}."
                )
    return sum(parameter.numel() for parameter in network.parameters())
