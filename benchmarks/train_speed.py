"""How much faster featherpose trains Lite-HRNet-18 than plain PyTorch does, both measured in turn on this machine.

    python benchmarks/train_speed.py                              about three minutes on two cores
    python benchmarks/train_speed.py --size 192x256 --seconds 30 --rounds 5

In each round `train_baseline.py` runs in one process with a thread per core, then `featherpose benchmark train` in one
process per core with one thread each, as a real run does. The ratio is that of the two speeds of one round; what is
printed is the median of the rounds, with the smallest and the largest. Everything goes to benchmarks/results/ as JSON.
Nothing else may run meanwhile: threads that wait for each other lose more to a busy core than single ones.
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
WAYS = {"step": "the same batch", "loading": "with loading"}
WANTED = 1.5
"""What the project wants to reach on a CPU at batch 64."""


def run(words: Sequence[str], threads_each: int) -> dict[str, Any]:
    """Command line of Python and threads of each process -> the JSON that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads_each)}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with code {done.returncode}.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def commands(args: argparse.Namespace, cores: int) -> dict[str, tuple[list[str], int]]:
    """What was asked for -> the command of either side and the threads of each of its processes."""
    common = ["--input-size", args.input_size, "--batch-size", str(args.batch_size), "--seconds", str(args.seconds)]
    common += ["--data", args.data] if args.data else []
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cores)]
    ours = ["-m", "featherpose", "benchmark", "train", NETWORK, "--device", "cpu", "--json"]
    return {
        "baseline": ([str(HERE / "train_baseline.py"), *common], cores),
        "featherpose": ([*(several if cores > 1 else []), *ours, *common], 1),
    }


def summary(rounds: Sequence[dict[str, Any]], way: str) -> dict[str, Any]:
    """Rounds, each with both sides, and a way of measuring -> median speeds, ratio of each round, median and spread."""
    speeds = {side: [r[side][way]["samples_per_s"] for r in rounds] for side in ("baseline", "featherpose")}
    ratios = [ours / plain for plain, ours in zip(speeds["baseline"], speeds["featherpose"], strict=True)]
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    return {**medians, "ratios": ratios, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


def table(summaries: dict[str, dict[str, Any]]) -> str:
    """Summary of each way -> lines of text."""
    lines = [f"{'images/s':16}{'baseline':>10}{'featherpose':>13}{'ratio':>8}   smallest to largest"]
    for way, values in summaries.items():
        low, high = values["spread"]
        speeds = f"{values['baseline']:10.1f}{values['featherpose']:13.1f}"
        lines.append(f"{WAYS[way]:16}{speeds}{values['ratio']:8.2f}   {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input-size", default="128x96", help="height x width of the input (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images a step, all processes (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="both sides, one after the other (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6, help="each side, each way, each round (default: 6)")
    parser.add_argument("--data", help="folder of shards (default: synthetic people)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Measure in turn, print the ratio and write everything down."""
    args, cores = parse(), available_threads()
    sides, rounds = commands(args, cores), []
    for number in range(1, args.rounds + 1):
        rounds.append({side: run(words, each) for side, (words, each) in sides.items()})
        print(f"round {number} of {args.rounds}:", *(_brief(side, rounds[-1]) for side in sides), file=sys.stderr)
    summaries = {way: summary(rounds, way) for way in WAYS}
    print(f"{NETWORK} {args.input_size}, batch {args.batch_size}, {cores} cores\n{table(summaries)}\nwanted: {WANTED}")

    size = {"network": NETWORK, "input_size": args.input_size, "batch_size": args.batch_size, "seconds": args.seconds}
    facts = {"made": datetime.now(UTC).isoformat(timespec="seconds"), **size, "data": args.data or "synthetic"}
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"train-{NETWORK}-{args.input_size}.json"
    files.replace(target, (json.dumps({**facts, **summaries, "rounds": rounds}, indent=1) + "\n").encode())
    print(target)


def _brief(side: str, both: dict[str, Any]) -> str:
    return (
        f" {side} {both[side]['step']['samples_per_s']:.1f} and {both[side]['loading']['samples_per_s']:.1f} images/s"
    )


if __name__ == "__main__":
    main()
