"""How fast networks overfit a few crops, and where their attention gates go; a table on stdout.

    OMP_NUM_THREADS=1 python benchmarks/overfit.py lite_hrnet_18 cbam_lite_hrnet_18:head=iterative

Each network is trained on the same 64 crops of the training set at 128x96, without augmentation: AdamW, constant
learning rate, batch norm in training mode. Loss is the mean squared error x 1000, in training mode; PCK is the share of
labeled keypoints within a twentieth of the crop's height, in evaluation mode. Gates are means over images and channels,
or cells, of the attention blocks before the last layer, finest resolution first.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from featherpose.data.augment import Augmentation
from featherpose.evaluation.pck import pck
from featherpose.networks import create_network
from featherpose.networks.attention import ChannelGate, SpatialGate
from featherpose.networks.preprocess import Normalize
from featherpose.recipes.pose import PoseData, PoseRecipe
from featherpose.recipes.shipped import RECIPES
from featherpose.training.losses import mse
from featherpose.training.tasks.pose import PoseTask
from featherpose.training.tasks.pose_training import SampleDataset, draw_targets

CROPS, BATCH = 64, 16
CPU = torch.device("cpu")


def read_crops() -> tuple[Tensor, Tensor, Tensor, np.ndarray[Any, Any], Any]:
    """The first crops of the training set -> images, heatmaps, weights, keypoints (N, K, 2) and the codec."""
    recipe = RECIPES["pretrain-cbam_lite_hrnet_18"]
    assert isinstance(recipe, PoseRecipe)
    data = PoseData(labels="ground_truth", sources=("coco",))
    task = PoseTask(recipe.model_copy(update={"data": data}), CPU)
    stage = task.prepare(recipe.stages[0])
    dataset = SampleDataset(stage.training_set, stage.codec, Augmentation.none(), seed=0)
    chosen = [number for number in range(1000) if dataset[0, number][3].sum() >= 10][:CROPS]
    images, *profiles = (torch.stack(part) for part in zip(*(dataset[0, i] for i in chosen), strict=True))
    heatmaps, weights = draw_targets(tuple(profiles))
    keypoints, _ = stage.codec.decode(heatmaps.numpy())
    return Normalize()(images), heatmaps, weights, keypoints, stage.codec


def gate_means(network: nn.Module, images: Tensor) -> str:
    """Means of the channel gates, then of the spatial gates, of the blocks before the last layer."""
    found: dict[type[nn.Module], list[float]] = {ChannelGate: [], SpatialGate: []}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        gate = module.gate(inputs[0]) if isinstance(module, ChannelGate) else output
        found[type(module)].append(gate.mean().item())

    blocks = [
        m for name, m in network.named_modules() if isinstance(m, ChannelGate | SpatialGate) and "stage" not in name
    ]
    hooks = [block.register_forward_hook(record) for block in blocks]
    network(images)
    for hook in hooks:
        hook.remove()
    return " / ".join(" ".join(f"{mean:.2f}" for mean in means) for means in found.values() if means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK[:OPTION=VALUE,...]")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    images, heatmaps, weights, keypoints, codec = read_crops()
    height = np.full(len(images), images.shape[2], float)
    print("| network | seed | step | loss x1000 | PCK | channel gates / spatial gates |\n|---|---|---|---|---|---|")
    for text in arguments.networks:
        name, _, options = text.partition(":")
        values = {key: yaml.safe_load(value) for key, _, value in (o.partition("=") for o in options.split(",") if o)}
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            network = create_network(name, **values)
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.lr)
            order = torch.cat([torch.randperm(CROPS) for _ in range(arguments.steps * BATCH // CROPS + 1)])
            losses: list[float] = []
            for step in range(arguments.steps + 1):
                if step % 20 == 0:
                    network.eval()
                    with torch.no_grad():
                        predicted, _ = codec.decode(network(images).numpy())
                        gates = gate_means(network, images)
                    score = pck(predicted, keypoints, weights.numpy(), height, 0.05).mean
                    loss_now = 1000 * float(np.mean(losses[-8:])) if losses else float("nan")
                    print(f"| {text} | {seed} | {step} | {loss_now:.2f} | {score:.3f} | {gates} |", flush=True)
                    network.train()
                batch = order[step * BATCH : (step + 1) * BATCH]
                loss = mse(network(images[batch]), heatmaps[batch], weights[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())


if __name__ == "__main__":
    main()
