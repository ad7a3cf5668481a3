"""Training throughput of the published Lite-HRNet-18 in plain, unoptimized PyTorch; JSON on stdout.

    OMP_NUM_THREADS=2 python benchmarks/train_baseline.py --input-size 128x96 --seconds 20

Everything is standard PyTorch: memory layout, batch norm, AdamW, mean squared error, a DataLoader with two workers, one
process with one thread per core. Crops, augmentation, targets and timing are those of `featherpose benchmark train`, so
that only the network implementation and the training loop differ.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from plain_lite_hrnet import LiteHRNet18
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from featherpose.codecs.heatmap import Msra
from featherpose.data.augment import Augmentation
from featherpose.networks.preprocess import MEAN, STD
from featherpose.size import Size
from featherpose.training.benchmark import Batch, Speed, Step, machine, measure_steps, open_samples, peak_memory
from featherpose.training.tasks.pose_training import SampleDataset, draw_targets

LR = 2e-3
MAX_STEPS = 1000
"""More than are ever measured, so that the loader is as busy at the end as in the middle of an epoch."""


@dataclass(frozen=True, eq=False)
class Normalized(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Sample by index -> image float32 (3, H, W), heatmaps (K, h, w), weights (K, 1, 1)."""

    examples: SampleDataset

    def __len__(self) -> int:
        return len(self.examples.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        crop, *profiles = self.examples[0, index]
        (heatmaps,), (weights,) = draw_targets(tuple(part[None] for part in profiles))
        image = crop.permute(2, 0, 1).float() / 255
        image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        return image.contiguous(), heatmaps, weights[:, None, None]


def trainer(num_keypoints: int) -> Step:
    """Number of keypoints -> function that trains on one batch."""
    network = LiteHRNet18(num_keypoints)
    loss = nn.MSELoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)

    def step(batch: Batch, stop: bool) -> bool:
        images, heatmaps, weights = batch
        optimizer.zero_grad()
        loss(network(images) * weights, heatmaps * weights).backward()
        optimizer.step()
        return stop

    return step


def measure(size: Size, batch: int, seconds: float, workers: int, data: str | None) -> dict[str, Speed]:
    """Size, batch size, seconds per measurement -> speed on one fixed batch, and with DataLoader."""
    with TemporaryDirectory(prefix="featherpose-") as scratch:
        samples = open_samples(data, size, Path(scratch))
        examples = Normalized(SampleDataset(samples, Msra(size, unbiased=True), Augmentation(), seed=0))
        draws = RandomSampler(examples, replacement=True, num_samples=MAX_STEPS * batch)
        loader: DataLoader[Any] = DataLoader(examples, batch, sampler=draws, num_workers=workers)
        train = trainer(samples.skeleton.num_keypoints)
        fixed_batch = itertools.repeat(next(iter(loader)))
        alone = measure_steps(train, fixed_batch, batch, seconds=seconds)
        return {"step": alone, "loading": measure_steps(train, loader, batch, alone.steps)}


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--input-size", default="128x96", help="height x width of the input in pixels (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="samples per step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="duration of each measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="data loading processes (default: %(default)s)")
    parser.add_argument("--data", help="folder of shards (default: synthetic samples)")
    args = parser.parse_args()
    speeds = measure(Size.of(args.input_size), args.batch_size, args.seconds, args.workers, args.data)
    facts: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "workers": args.workers,
        "machine": machine(),
        "peak_memory": peak_memory(torch.device("cpu")),
    }
    facts |= {measurement: asdict(speed) for measurement, speed in speeds.items()}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
