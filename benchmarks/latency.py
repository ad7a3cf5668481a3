"""Latency of every network for one image on one CPU thread, and its ratio to Lite-HRNet-18 as published.

    python benchmarks/latency.py                                 every network; half an hour, most of it for exporting
    python benchmarks/latency.py rep_pose hrnet_w32 --rounds 5    two of them; printed, and written only with --out
    python benchmarks/latency.py --models /tmp/exported           keeps the exported files there, reuses existing ones
    python benchmarks/latency.py --shipped                        the shipped models; written only with --out

Each network is exported with random weights at its default input and opened as in `featherpose predict`: uint8 crops
in, keypoints out, batch size 1, one thread. In each round every network runs several times in a row, slow networks less
often; the order of the networks is shuffled. The baseline is lite_hrnet_18 as it was trained, not rearranged for
engines. It runs in every round, and a ratio is that of the medians of one round, so that a temporary slowdown of the
machine affects both. Numbers are medians; spreads are the 10th to the 90th percentile. tools/make_table.py reads the
file. Nothing else should run meanwhile; `taskset -c 1 nice -n -5` in front gives steadier numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import files, weights
from featherpose.errors import did_you_mean
from featherpose.exporting import export
from featherpose.exporting.crops import synthetic
from featherpose.manifest import PoseManifest
from featherpose.networks import NETWORKS, create_network, stride_of
from featherpose.networks.layers import BasicBlock, Bottleneck
from featherpose.networks.preprocess import normalize
from featherpose.runtime.session import Session
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training.benchmark import machine

HERE = Path(__file__).resolve().parent
BASELINE = "lite_hrnet_18"
PLAIN = f"plain {BASELINE}"
"""The baseline in tables: its export as it was trained."""
SIZE = Size(height=256, width=192)  # for networks without a fixed input size
SECONDS_PER_ROUND = 0.3  # of a network, limited to MIN_RUNS to MAX_RUNS runs
MIN_RUNS = 3
MAX_RUNS = 30
SEED = 2021

Rounds = list[list[float]]
"""Milliseconds of each run, round by round."""


def calibrated(network: nn.Module, crops: NDArray[np.uint8]) -> nn.Module:
    """An initialized network -> the same in eval mode, with batch norm statistics of the crops (N, H, W, 3).

    Norm weights are small except on shortcuts. Weights do not affect latency, but in a freshly initialized network
    rounding errors grow from layer to layer until the parity check of the export fails.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the running statistics become those of the one batch below
            nn.init.constant_(module.weight, 0.25)
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck) and isinstance(module.downsample, nn.Sequential):
            norm = module.downsample[1]
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.ones_(norm.weight)
    with torch.no_grad():
        network.train()(normalize(torch.from_numpy(crops)))
    return network.eval()


def exported(name: str, folder: Path) -> Path:
    """Name and folder -> path of NAME.onnx in it, exported if it does not exist."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        export_fresh(name, path)
    return path


def exported_baseline(folder: Path) -> Path:
    """Folder -> path of the plain export of `BASELINE` in it, exported if it does not exist."""
    path = folder / f"{BASELINE}-plain.onnx"
    if not path.exists():
        export_fresh(BASELINE, path, plain=True)
    return path


def export_fresh(
    name: str,
    path: Path,
    size: Size | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    plain: bool = False,
) -> None:
    """Export a network with random weights and these options to the file; default input if no size is given."""
    torch.manual_seed(SEED)
    network = create_network(name, **(options or {}))
    size = size or getattr(network, "fixed_size", None) or SIZE
    manifest = PoseManifest(
        network=name, skeleton=COCO17, input_size=size, codec={"name": "msra", "stride": stride_of(name)}
    )
    crops = np.stack(list(synthetic(size).values()))
    export(calibrated(network, crops), path, manifest, crops={}, plain=plain)


def measure(sessions: Mapping[str, Session], rounds: int) -> dict[str, Rounds]:
    """Sessions by name and number of rounds -> latency of each run in ms."""
    crops = {name: _noise(session) for name, session in sessions.items()}
    runs = {name: _runs(session, crops[name]) for name, session in sessions.items()}
    times: dict[str, Rounds] = {name: [] for name in sessions}
    for number in range(rounds):
        # In another order each round, so that no network always runs after the same one.
        for name in random.Random(number).sample(list(sessions), len(sessions)):
            turn = [_run(sessions[name], crops[name]) for _ in range(runs[name] + 1)]
            times[name].append(turn[1:])  # the first run is warm-up: the caches hold another network
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return times


def measure_files(models: Mapping[str, Path], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Model files by name, folder of the baseline's file, number of rounds -> by name the line of each, that of the
    baseline first."""
    paths = {PLAIN: exported_baseline(folder), **models}
    sessions = {name: Session.open(path, "cpu", threads=1) for name, path in paths.items()}
    times = measure(sessions, rounds)
    return {
        name: summary(name, session.manifest.input_size, times[name], times[PLAIN])
        for name, session in sessions.items()
    }


def _noise(session: Session) -> NDArray[np.uint8]:
    return synthetic(session.manifest.input_size)["noise"][None]


def _run(session: Session, crop: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    session.run(crop)
    return 1000 * (time.perf_counter() - began)


def _runs(session: Session, crop: NDArray[np.uint8]) -> int:
    """Number of runs per round, from the faster of two runs."""
    milliseconds = min(_run(session, crop) for _ in range(2))
    wanted = round(1000 * SECONDS_PER_ROUND / milliseconds)
    return min(MAX_RUNS, max(MIN_RUNS, wanted))


def summary(name: str, size: Size, times: Rounds, baseline: Rounds) -> dict[str, Any]:
    """Latencies of a network and of the baseline in the same rounds, in ms -> its line in the file."""
    every = [ms for turn in times for ms in turn]
    ratios = [np.median(ours) / np.median(plain) for ours, plain in zip(times, baseline, strict=True)]
    return {
        "network": name,
        "input_size": str(size),
        "runs": len(every),
        "latency_ms": round(float(np.median(every)), 3),
        "spread_ms": _spread(every),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_spread": _spread(ratios),
    }


def _spread(values: Sequence[Any]) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(values, [10, 90])]


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Summaries -> lines of text, the fastest first."""
    text = [f"{'network':28}{'input':>10}{'ms':>9}   {'10 to 90 %':<18}{'ratio':>7}"]
    for line in sorted(lines, key=lambda line: line["latency_ms"]):
        low, high = line["spread_ms"]
        spread = f"{low:.1f} to {high:.1f}"
        text.append(
            f"{line['network']:28}{line['input_size']:>10}{line['latency_ms']:9.1f}   {spread:<18}{line['ratio']:7.2f}"
        )
    return "\n".join(text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="names (default: all, and --out's default)")
    parser.add_argument("--shipped", action="store_true", help="the shipped models, in place of NETWORKs")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of measurement (default: %(default)s)")
    parser.add_argument("--models", type=Path, help="folder of NAME.onnx files; missing ones are exported to it")
    parser.add_argument(
        "--out", type=Path, help="JSON file (default: benchmarks/results/latency.json for all networks)"
    )
    args = parser.parse_args()
    for name in args.networks:
        if name not in NETWORKS:
            parser.error(f"unknown network {name!r}.{did_you_mean(name, NETWORKS)}")
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: wanted at least 1.")
    if args.shipped and args.networks:
        parser.error("--shipped measures the shipped models; leave out the names.")
    if not args.shipped and not args.networks:
        args.networks = sorted(NETWORKS)
        args.out = args.out or HERE / "results" / "latency.json"
    return args


def main() -> None:
    """Export, measure, print the table and write the results."""
    args = parse()
    with ExitStack() as stack:
        folder = args.models or Path(stack.enter_context(TemporaryDirectory(prefix="featherpose-")))
        folder.mkdir(parents=True, exist_ok=True)
        models: dict[str, Path] = {}
        for name in args.networks:
            print(f"opening {name}", file=sys.stderr)
            models[name] = exported(name, folder)
        for card in weights.shipped_cards() if args.shipped else []:
            models[card["name"]] = weights.find(card["name"])
        lines = measure_files(models, folder, args.rounds)
    print(table(list(lines.values())))
    if args.out:
        _write(args.out, args.rounds, lines[PLAIN], [line for name, line in lines.items() if name != PLAIN])


def _write(target: Path, rounds: int, baseline: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    facts = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": 1,
        "batch_size": 1,
        "rounds": rounds,
        "machine": machine(),
        "versions": {name: version(name) for name in ("featherpose", "onnxruntime", "numpy")},
        "yardstick": baseline,
        "networks": lines,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    files.replace(target, (json.dumps(facts, indent=1) + "\n").encode())
    print(target)


if __name__ == "__main__":
    main()
