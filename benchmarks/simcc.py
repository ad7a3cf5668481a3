"""Heatmaps or two classifications a joint: `python benchmarks/simcc.py`, with a process per core under torchrun.

SimCC (Li et al. 2022, https://arxiv.org/abs/2107.03332) reads x and y of a joint off two rows of bins, half a pixel
each, and needs no map at 1/4 of the input. It gets FeatherPose's body with ImageNet weights, and the people,
augmentation, batch, rate and passes that heatmaps have had in the line of `benchmarks/candidates.py feather_pose
--option head_channels=48`, which is printed beside it; scores are those of the validation part. What SimCC needs is
written here and nowhere else: it would become a codec if it won.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import candidates
import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from featherpose import codecs, files, networks
from featherpose.networks.efficientnet_lite0 import CHANNELS, efficientnet_lite0
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.layers import ConvUnit, enlarge
from featherpose.networks.pyramid import Stages
from featherpose.train import losses
from featherpose.train.loop import train
from featherpose.train.recipe import change
from featherpose.train.recipes import named

RESULTS = Path(__file__).parent / "results" / "simcc.json"
SPLIT = 2  # bins a pixel, as in the paper
HIDDEN = 256
SIZE = (96, 128)


@dataclass(frozen=True)
class SimCC(codecs.Codec):
    """A joint as W * SPLIT bins for x and H * SPLIT for y, side by side in one row; `sigma` is in bins."""

    name: ClassVar[str] = "simcc"

    @property
    def heatmap_size(self) -> tuple[int, int]:
        return (self.size[0] + self.size[1]) * SPLIT, 1

    def encode(self, keypoints: ArrayLike, visible: ArrayLike) -> tuple[codecs.Array, codecs.Array]:
        """Joints (..., K, 2) -> two Gaussians of sum 1 in a row (..., K, 1, bins), weights (..., K)."""
        places = np.asarray(keypoints, np.float64)
        inside = ((places >= 0) & (places < self.size)).all(axis=-1)
        weights = ((np.asarray(visible) > 0) & inside).astype(np.float32)
        rows = []
        for axis in (0, 1):
            bins = (np.arange(self.size[axis] * SPLIT) + 0.5) / SPLIT - 0.5
            values = np.exp(-(((places[..., axis, None] - bins) * SPLIT) ** 2) / (2 * self.sigma**2))
            rows.append(values / np.maximum(values.sum(axis=-1, keepdims=True), 1e-9))
        return np.concatenate(rows, axis=-1)[..., None, :].astype(np.float32), weights

    def decode(self, heatmaps: ArrayLike) -> tuple[codecs.Array, codecs.Array]:
        """Rows (..., K, 1, bins) -> the likeliest bins' middles (..., K, 2) and the smaller of both likelihoods."""
        row = np.asarray(heatmaps, np.float32)[..., 0, :]
        x, y = np.split(row, [self.size[0] * SPLIT], axis=-1)
        likely = [np.exp(r - r.max(axis=-1, keepdims=True)) for r in (x, y)]
        scores = np.minimum(*(1 / r.sum(axis=-1) for r in likely))
        bins = np.stack([x.argmax(axis=-1), y.argmax(axis=-1)], axis=-1)
        return ((bins + 0.5) / SPLIT - 0.5).astype(np.float32), scores

    def _place(self, cells: codecs.Double) -> tuple[codecs.Double, codecs.Double | None]:
        raise NotImplementedError

    def _offset(self, maps: codecs.Array, cells: ArrayLike) -> codecs.Double:
        raise NotImplementedError


class Head(nn.Module):
    """The maps at 1/16 and 1/32 -> a map per joint -> its cells through two linear layers to bins (N, K, 1, bins)."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.fine, self.coarse = (ConvUnit(c, 128, activation=None) for c in CHANNELS[2:])
        self.maps = nn.Conv2d(128, num_keypoints, 7, padding=3)
        self.hidden = nn.Linear(SIZE[0] * SIZE[1] // 256, HIDDEN)
        self.final_layer = nn.Linear(HIDDEN, (SIZE[0] + SIZE[1]) * SPLIT)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = (self.fine(maps[2]) + enlarge(self.coarse(maps[3]), 2)).relu()
        return self.final_layer(self.hidden(self.maps(x).flatten(2)).relu())[:, :, None]


def simcc_pose(num_keypoints: int = 17) -> PoseNetwork:
    """FeatherPose's body with SimCC's head."""
    return PoseNetwork(Stages(efficientnet_lite0()), Head(num_keypoints))


def cross_entropy(rows: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Both classifications' cross entropies, summed; a mean over people and joints."""
    lengths = [SIZE[0] * SPLIT, SIZE[1] * SPLIT]
    pairs = zip(rows.split(lengths, -1), targets.split(lengths, -1), strict=True)
    return sum(((-t * r.log_softmax(-1)).sum((-2, -1)) * weights).mean() for r, t in pairs)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--sigma", type=float, default=3.5, help="of SimCC, in bins")
    arguments = parser.parse_args()
    heatmaps = with_heatmaps()
    networks.NETWORKS["simcc_pose"] = simcc_pose
    codecs.CODECS["simcc"] = SimCC
    losses.LOSSES["cross_entropy"] = cross_entropy
    size = f"{SIZE[0]}x{SIZE[1]}"
    settings = candidates.settings("simcc_pose", [], arguments.epochs, size, rate=1e-3)
    settings += ["codec=simcc", "loss=cross_entropy", f"stages.0.sigma={arguments.sigma}", "init=efficientnet_lite0"]
    with TemporaryDirectory() as folder:
        train(change(named(candidates.RECIPE), settings), Path(folder) / "simcc")
        card = Path(folder) / "simcc" / "card.json"
        if not card.exists():  # the first process alone writes it
            return
        history = json.loads(card.read_text())["history"]
    files.replace(RESULTS, (json.dumps(history, indent=1) + "\n").encode())
    for name, judged in {"simcc": history, "heatmaps": heatmaps}.items():
        print(f"{name:9}", *(f"{r['ap']:5.2f} ({r['pck']:.1f})" for r in judged))


def with_heatmaps() -> list[dict[str, Any]]:
    """The judgements after each pass of the line that SimCC is compared with."""
    lines: list[dict[str, Any]] = json.loads((RESULTS.parent / "candidates.json").read_text())
    wanted = {"network": "feather_pose", "options": ["head_channels=48"], "size": f"{SIZE[0]}x{SIZE[1]}"}
    return next(line["history"] for line in lines if wanted.items() <= line.items())


if __name__ == "__main__":
    main()
