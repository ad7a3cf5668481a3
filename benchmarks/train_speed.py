"""Training throughput of Lite-HRNet-18 in featherpose relative to plain PyTorch, on this machine.

    python benchmarks/train_speed.py                              about three minutes on two cores
    python benchmarks/train_speed.py --input-size 256x192 --seconds 30 --rounds 5

Both are measured alternately: each round runs `train_baseline.py` in one process with one thread per core, then
`featherpose benchmark train` in one process per core with one thread each, as in a real training run. The ratio is that
of the two throughputs of a round; the median over the rounds is printed with the smallest and the largest. All results
are written to benchmarks/results/ as JSON. Nothing else should run meanwhile: a busy core slows synchronized threads
more than single-threaded processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.machine import available_threads

HERE = Path(__file__).resolve().parent
NETWORK = "lite_hrnet_18"
MEASUREMENTS = {"step": "one fixed batch", "loading": "with DataLoader"}
TARGET_RATIO = 1.5
"""Target ratio on a CPU at batch size 64."""


def run(words: Sequence[str], threads_each: int) -> dict[str, Any]:
    """Arguments of Python and threads per process -> the JSON that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads_each)}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed with exit code {done.returncode}.")
    return json.loads(done.stdout.strip().splitlines()[-1])  # torchrun may print lines of its own before


def commands(args: argparse.Namespace, cores: int) -> dict[str, tuple[list[str], int]]:
    """Options -> command of each side and its threads per process."""
    common = ["--input-size", args.input_size, "--batch-size", str(args.batch_size), "--seconds", str(args.seconds)]
    if args.data:
        common += ["--data", args.data]
    baseline = [str(HERE / "train_baseline.py"), *common]
    ours = ["-m", "featherpose", "benchmark", "train", NETWORK, "--device", "cpu", "--json", *common]
    if cores > 1:
        ours = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cores), *ours]
    return {"baseline": (baseline, cores), "featherpose": (ours, 1)}


def summary(rounds: Sequence[dict[str, Any]], measurement: str) -> dict[str, Any]:
    """Rounds with both sides, and the measurement -> median throughputs, ratio of each round, median and spread."""
    speeds = {side: [r[side][measurement]["samples_per_s"] for r in rounds] for side in ("baseline", "featherpose")}
    ratios = [ours / plain for plain, ours in zip(speeds["baseline"], speeds["featherpose"], strict=True)]
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    return {**medians, "ratios": ratios, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


def table(summaries: dict[str, dict[str, Any]]) -> str:
    """Summary of each measurement -> lines of text."""
    lines = [f"{'samples/s':16}{'baseline':>10}{'featherpose':>13}{'ratio':>8}   smallest to largest"]
    for measurement, values in summaries.items():
        low, high = values["spread"]
        speeds = f"{values['baseline']:10.1f}{values['featherpose']:13.1f}"
        lines.append(f"{MEASUREMENTS[measurement]:16}{speeds}{values['ratio']:8.2f}   {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--input-size", default="128x96", help="height x width of the input in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="samples per step, all processes (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with both sides (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6, help="duration of each measurement (default: 6)")
    parser.add_argument("--data", help="folder of shards (default: synthetic samples)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder for the JSON file (default: %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    """Measure both sides alternately, print the ratio and write the results."""
    args = parse()
    cores = available_threads()
    sides = commands(args, cores)
    rounds: list[dict[str, Any]] = []
    for number in range(1, args.rounds + 1):
        rounds.append({side: run(words, each) for side, (words, each) in sides.items()})
        print(f"round {number} of {args.rounds}:", *(_brief(side, rounds[-1]) for side in sides), file=sys.stderr)
    summaries = {measurement: summary(rounds, measurement) for measurement in MEASUREMENTS}
    print(
        f"{NETWORK} {args.input_size}, batch size {args.batch_size}, {cores} cores\n{table(summaries)}\n"
        f"target ratio: {TARGET_RATIO}"
    )

    facts = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": NETWORK,
        "input_size": args.input_size,
        "batch_size": args.batch_size,
        "seconds": args.seconds,
        "data": args.data or "synthetic",
    }
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"train-{NETWORK}-{args.input_size}.json"
    files.replace(target, (json.dumps({**facts, **summaries, "rounds": rounds}, indent=1) + "\n").encode())
    print(target)


def _brief(side: str, both: dict[str, Any]) -> str:
    step = both[side]["step"]["samples_per_s"]
    loading = both[side]["loading"]["samples_per_s"]
    return f" {side} {step:.1f} and {loading:.1f} samples/s"


if __name__ == "__main__":
    main()
