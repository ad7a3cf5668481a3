"""Accuracy of networks at equal training time: `python benchmarks/candidates.py NETWORK [--option KEY=VALUE]`.

Every candidate is trained with the same samples, augmentation, codec, batch size and CPU time, one process per core:
one core-hour in total, or `--hours`. The number of epochs that fit is measured first, and the learning rate follows a
cosine over exactly these epochs. Scores are those of the EMA weights on the validation set; no test set is used. One
network per call; each call adds its line to benchmarks/results/candidates.json:

    python benchmarks/candidates.py rep_pose
    python benchmarks/candidates.py rep_pose --option attention=none
    python benchmarks/candidates.py feather_pose --pretrained efficientnet_lite0 --lr 1e-3 --option head_channels=48
    python benchmarks/candidates.py --time       counts every line's network; times its export with random weights
    python benchmarks/candidates.py              prints the table

A ratio is the latency of one image on one thread, relative to lite_hrnet_18 at 256x192, for each kind of processor on
which `--time` ran. Nothing else should run meanwhile: it would reduce the candidate's training time. On a shared
machine of varying speed, give the number of epochs with `--epochs`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import latency
import torch
import yaml

from featherpose import files
from featherpose.exporting.onnx import form_for_export
from featherpose.machine import available_threads
from featherpose.networks import create_network
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.size import Size

RESULTS = Path(__file__).parent / "results" / "candidates.json"
SAMPLES = 19_326  # of pose-train, without the validation set
RECIPE = "pretrain-rep_pose"  # changed by `settings`
BATCH_SIZE = 64
ROUNDS = 25  # latency rounds with `--time`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="network option; can be repeated"
    )
    parser.add_argument(
        "--hours", type=float, default=1.0, help="core-hours, shared by all cores (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, help="number of epochs, in place of --hours")
    parser.add_argument(
        "--input-size", default="128x96", help="height x width of the input in pixels (default: %(default)s)"
    )
    parser.add_argument("--pretrained", default="", help="pretrained weights")
    parser.add_argument(
        "--lr", type=float, default=2e-3, help="learning rate for a batch size of 32 (default: %(default)s)"
    )
    parser.add_argument("--time", action="store_true", help="count and time the networks of the table")
    arguments = vars(parser.parse_args())
    timed = arguments.pop("time")
    line = train_candidate(**arguments) if arguments["network"] else None
    known: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if line:
        same = ("network", "options", "input_size", "hours_wanted", "pretrained")
        others = [old for old in known if any(old[key] != line[key] for key in same)]
        known = [*others, line]
    if timed:
        known = add_counts_and_latency(known)
    if line or timed:
        files.replace(RESULTS, (json.dumps(known, indent=1) + "\n").encode())
    for line in sorted(known, key=lambda line: (line["input_size"], -line["oks_accuracy"])):
        counts = f"{line['parameters'] / 1e6:.2f} M  {line['macs'] / 1e6:4.0f} MMACs  " if "macs" in line else ""
        ratios = ", ".join(f"{ratio:.2f} with {kind}" for kind, ratio in line.get("ratios", {}).items())
        trained = f"OKS accuracy {line['oks_accuracy']:5.2f}  PCK {line['pck']:5.2f}"
        spent = f"{line['epochs']:3} epochs, {line['cpu_hours']:.2f} CPU-hours"
        print(f"{label(line):50} {line['input_size']:8} {trained}  {spent}  {counts}{ratios}")


def label(line: dict[str, Any]) -> str:
    """A line -> network, options and pretrained weights."""
    words = [line["network"], *line["options"]]
    if line["pretrained"]:
        words.append(f"pretrained {line['pretrained']}")
    return " ".join(words)


def size_of(line: dict[str, Any]) -> Size:
    """A line -> its input size in pixels."""
    return Size.of(line["input_size"])


def add_counts_and_latency(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines -> the same with parameters and multiply-accumulates as exported, and latency ratio on this processor."""
    kind = torch.backends.cpu.get_cpu_capability()
    with TemporaryDirectory() as folder:
        models: dict[str, Path] = {}
        for number, line in enumerate(lines):
            size = size_of(line)
            options = yaml.safe_load(as_yaml(line["options"]))
            network = form_for_export(create_network(line["network"], **options))
            line |= {"parameters": count_parameters(network), "macs": count_macs(network, size)}
            models[str(number)] = Path(folder) / f"{number}.onnx"
            latency.export_fresh(line["network"], models[str(number)], size, options)
        measured = latency.measure_files(models, Path(folder), ROUNDS)
    for number, line in enumerate(lines):
        line["ratios"] = {**line.get("ratios", {}), kind: measured[str(number)]["ratio"]}
    return lines


def train_candidate(
    network: str, option: list[str], hours: float, epochs: int | None, input_size: str, pretrained: str, lr: float
) -> dict[str, Any]:
    """Network, training time and settings -> scores, and the time they took."""
    if epochs is None:
        seconds = hours * 3600 / available_threads()
        samples = seconds * samples_per_second(network, option, input_size)
        epochs = max(1, round(samples / SAMPLES))
    print(f"{network}: {epochs} epochs", flush=True)
    words = [word for setting in settings(network, option, epochs, input_size, lr) for word in ("--set", setting)]
    with TemporaryDirectory() as folder:
        run = Path(folder) / network
        start = ("--pretrained", pretrained) if pretrained else ()
        # CPU time of the child processes, which does not count the pauses of a shared machine.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        featherpose("train", RECIPE, *words, *start, "--out", str(run))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        card = json.loads((run / "card.json").read_text())
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {
        "network": network,
        "options": option,
        "input_size": input_size,
        "pretrained": pretrained,
        "lr": lr,
        "hours_wanted": hours,
        "epochs": epochs,
        "cpu_hours": round(spent / 3600, 2),
        "hours": card["hours"],
        "oks_accuracy": card["best"]["oks_accuracy"],
        "pck": card["best"]["pck"],
        "history": card["history"],
    }


def settings(network: str, option: list[str], epochs: int, size: str, lr: float) -> list[str]:
    """Overrides of `RECIPE` for a candidate, KEY=VALUE each."""
    stage = f"input_size: {size}, epochs: {epochs}, batch_size: {BATCH_SIZE}, sigma: {sigma(size)}"
    return [
        f"network={network}",
        f"options={as_yaml(option)}",
        f"stages=[{{{stage}}}]",
        "codec=dark",
        f"optimizer.lr={lr}",
        "schedule={name: cosine, warmup: 200}",
        f"validation.interval={max(1, epochs // 10)}",
    ]


def as_yaml(options: list[str]) -> str:
    """KEY=VALUE strings -> one mapping as YAML."""
    entries = [option.replace("=", ": ", 1) for option in options]
    return f"{{{', '.join(entries)}}}"


def sigma(size: str) -> float:
    """Height x width of the input -> sigma of the target Gaussian in cells, from 1.5 at 128x96 to 2 at 256x192."""
    return {"128x96": 1.5, "160x128": 1.75}.get(size, 2.0)


def samples_per_second(network: str, option: list[str], size: str) -> float:
    """Training throughput in samples/s on all cores, data loading included."""
    words = [word for o in option for word in ("--option", o)]
    arguments = ("--input-size", size, "--batch-size", str(BATCH_SIZE), "--data", "pose-train", "--json")
    said = featherpose("benchmark", "train", network, *words, *arguments, output=subprocess.PIPE)
    return json.loads(said)["loading"]["samples_per_s"]


def featherpose(*words: str, output: int | None = None) -> str:
    """Run the command line with one process per core; returns its output if it is piped."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(available_threads())]
    command = [sys.executable, *several, "-m", "featherpose", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=output, text=True, env=environment)
    return done.stdout or ""


if __name__ == "__main__":
    main()
