"""Run by torchrun in `test_ranks.py`: what each of two processes learns from a batch, and how they judge together."""

import sys
from pathlib import Path

import numpy as np
import torch

from featherpose.networks import create_network
from featherpose.recipes.recipe import Recipe, load
from featherpose.training.ranks import Ranks, join
from featherpose.training.tasks import pose
from featherpose.training.train_step import TrainStep

CPU = torch.device("cpu")


class Double(torch.nn.Module):
    """A network of float64 behind pictures of float32: sums in another order differ by less than a test sees."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.double())


def learn_and_judge(recipe: Recipe, ranks: Ranks) -> dict[str, np.ndarray]:
    """Gradients of this process's share of sixteen crops, averaged, and the scores of the whole validation part."""
    torch.manual_seed(recipe.seed)
    network = Double(create_network(recipe.network, **recipe.options)).eval()  # batch norms are frozen
    crops = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    targets, weights = torch.rand(16, 17, 16, 16), torch.randint(0, 2, (16, 17)).float()
    train_step = TrainStep(network, recipe, None, CPU)
    train_step(*(tensor[ranks.index :: ranks.count] for tensor in (crops, targets, weights)))
    stop = ranks.average_gradients(network, stop=ranks.index == 1)
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    ready = pose.prepare(recipe, pose.read_samples(recipe), recipe.stages[0])
    scores = pose.validate(network, ready.validation_set, CPU, ranks)
    return {"gradients": gradients.numpy(), "scores": np.array(list(scores.values())), "stop": np.array(stop)}


if __name__ == "__main__":
    together = join(CPU)
    np.savez(Path(sys.argv[2]) / f"rank{together.index}.npz", **learn_and_judge(load(Path(sys.argv[1])), together))
