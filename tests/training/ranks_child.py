"""Run by `test_ranks.py` in two processes: the gradients of each, and the scores of their validation."""

from pathlib import Path

import numpy as np
import torch

from featherpose.networks import create_network
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import load
from featherpose.training.ranks import Ranks, init_ranks
from featherpose.training.tasks.pose import PoseTask
from featherpose.training.train_step import TrainStep

CPU = torch.device("cpu")


class Float64Network(torch.nn.Module):
    """A float64 network on float32 images: summation order then changes results by less than the test tolerance."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.double())


def gradients_and_scores(recipe: PoseRecipe, ranks: Ranks) -> dict[str, np.ndarray]:
    """Averaged gradients of this process's share of sixteen crops, and the scores on the whole validation set."""
    torch.manual_seed(recipe.seed)
    network = Float64Network(create_network(recipe.network, **recipe.options)).eval()  # batch norms are frozen
    crops = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    profiles = torch.rand(2, 16, 1, 17, 16)  # down and across
    weights = torch.randint(0, 2, (16, 1, 17)).float()
    task = PoseTask(recipe, CPU)
    train_step = TrainStep(network, task.loss, CPU)
    train_step(tuple(tensor[ranks.index :: ranks.count] for tensor in (crops, *profiles, weights)))
    stop = ranks.average_gradients(network, stop=ranks.index == 1)
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    scores = task.prepare(recipe.stages[0]).validate(network, CPU, ranks)
    return {"gradients": gradients.numpy(), "scores": np.array(list(scores.values())), "stop": np.array(stop)}


def save(recipe_file: str, folder: str) -> None:
    """In one of several processes: write the result into the folder."""
    ranks = init_ranks(CPU)
    np.savez(Path(folder) / f"rank{ranks.index}.npz", **gradients_and_scores(load(Path(recipe_file)), ranks))
