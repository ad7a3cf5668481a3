"""Which network learns most in the same time: `python benchmarks/candidates.py NETWORK [--option attention=none]`.

Every candidate gets the same people, augmentation, codec, batch and time on this machine's cores, one process each: an
hour of one core in all, or what `--hours` says. How many passes that are is measured first; the rate then falls along a
cosine over just these passes. The figure is the validation part's, of the averaged weights; no test photo is looked at.
One network a call; each call adds its line to benchmarks/results/candidates.json:

    python benchmarks/candidates.py rep_pose
    python benchmarks/candidates.py rep_pose --option attention=none
    python benchmarks/candidates.py feather_pose --init efficientnet_lite0 --rate 1e-3 --option head_channels=48
    python benchmarks/candidates.py --time       counts every line's network and times its export with fresh weights
    python benchmarks/candidates.py              prints the table

A ratio is the time of a picture, one thread, to that of lite_hrnet_18 at 192x256, for each kind of processor that
`--time` ran on. Leave the machine alone meanwhile: whatever else runs takes from the candidate's hour. On a shared
machine whose speed wavers, `--passes` says how many passes the hour is worth.
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
from featherpose.runtime.session import Session
from featherpose.size import Size

RESULTS = Path(__file__).parent / "results" / "candidates.json"
SAMPLES = 19_326  # of pose-train, those of the validation part left out
RECIPE = "pretrain-rep_pose"  # what `settings` change
BATCH = 64
ROUNDS = 25  # turns of each network when they are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the network")
    parser.add_argument("--hours", type=float, default=1.0, help="of one core, shared by all (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="over the people, in place of what the hours give")
    parser.add_argument("--input-size", default="128x96", help="height x width of the input (default: %(default)s)")
    parser.add_argument("--pretrained", default="", help="weights to start from")
    parser.add_argument("--lr", type=float, default=2e-3, help="for a batch of 32 (default: %(default)s)")
    parser.add_argument("--time", action="store_true", help="count and time the networks of the table")
    arguments = vars(parser.parse_args())
    timed = arguments.pop("time")
    line = train_candidate(**arguments) if arguments["network"] else None
    known: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if line:
        same = ("network", "options", "input_size", "hours_wanted", "pretrained")
        known = [old for old in known if any(old[key] != line[key] for key in same)] + [line]
    if timed:
        known = counted_and_timed(known)
    if line or timed:
        files.replace(RESULTS, (json.dumps(known, indent=1) + "\n").encode())
    for line in sorted(known, key=lambda line: (line["input_size"], -line["oks_accuracy"])):
        counts = f"{line['parameters'] / 1e6:.2f} M  {line['macs'] / 1e6:4.0f} MMACs  " if "macs" in line else ""
        ratios = ", ".join(f"{ratio:.2f} with {kind}" for kind, ratio in line.get("ratios", {}).items())
        trained = f"AP {line['oks_accuracy']:5.2f}  PCK {line['pck']:5.2f}"
        spent = f"{line['epochs']:3} passes, {line['cpu_hours']:.2f} CPU-hours"
        print(f"{label(line):50} {line['input_size']:8} {trained}  {spent}  {counts}{ratios}")


def label(line: dict[str, Any]) -> str:
    """A line -> network, options and where its weights came from."""
    return " ".join(
        filter(None, [line["network"], *line["options"], line["pretrained"] and f"from {line['pretrained']}"])
    )


def size_of(line: dict[str, Any]) -> Size:
    """A line -> its input size in pixels."""
    return Size.of(line["input_size"])


def counted_and_timed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines -> the same with parameters and multiply-accumulates as exported, and the ratio on this processor."""
    kind = torch.backends.cpu.get_cpu_capability()
    with TemporaryDirectory() as folder:
        plain = latency.exported(latency.YARDSTICK, Path(folder))
        sessions = {latency.YARDSTICK: Session.open(plain, "cpu", threads=1)}
        for number, line in enumerate(lines):
            size = size_of(line)
            options = yaml.safe_load(as_yaml(line["options"]))
            network = form_for_export(create_network(line["network"], **options))
            line |= {"parameters": count_parameters(network), "macs": count_macs(network, size)}
            path = Path(folder) / f"{number}.onnx"
            latency.export_fresh(line["network"], path, size, options)
            sessions[path.stem] = Session.open(path, "cpu", threads=1)
        times = latency.measure(sessions, ROUNDS)
    for number, line in enumerate(lines):
        ours = latency.summary(line["network"], size_of(line), times[str(number)], times[latency.YARDSTICK])
        line["ratios"] = {**line.get("ratios", {}), kind: ours["ratio"]}
    return lines


def train_candidate(
    network: str, option: list[str], hours: float, epochs: int | None, size: str, pretrained: str, lr: float
) -> dict[str, Any]:
    """What to train and for how long -> what it reached, and what that took."""
    if epochs is None:
        seconds = hours * 3600 / available_threads()
        epochs = max(1, round(seconds * images_per_second(network, option, size) / SAMPLES))
    print(f"{network}: {epochs} passes", flush=True)
    words = [word for setting in settings(network, option, epochs, size, lr) for word in ("--set", setting)]
    with TemporaryDirectory() as folder:
        run = Path(folder) / network
        start = ("--pretrained", pretrained) if pretrained else ()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        featherpose("train", RECIPE, *words, *start, "--out", str(run))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        card = json.loads((run / "card.json").read_text())
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {
        **{
            "network": network,
            "options": option,
            "input_size": size,
            "pretrained": pretrained,
            "lr": lr,
            "hours_wanted": hours,
        },
        **{"epochs": epochs, "cpu_hours": round(spent / 3600, 2)},
        **{
            "hours": card["hours"],
            "oks_accuracy": card["best"]["oks_accuracy"],
            "pck": card["best"]["pck"],
            "history": card["history"],
        },
    }


def settings(network: str, option: list[str], epochs: int, size: str, lr: float) -> list[str]:
    """What every candidate has of its own in `RECIPE`, KEY=VALUE each."""
    stage = f"input_size: {size}, epochs: {epochs}, batch_size: {BATCH}, sigma: {sigma(size)}"
    return [
        *(f"network={network}", f"options={as_yaml(option)}", f"stages=[{{{stage}}}]", "codec=dark"),
        f"optimizer.lr={lr}",
        *("schedule={name: cosine, warmup: 200}", f"validation.interval={max(1, epochs // 10)}"),
    ]


def as_yaml(options: list[str]) -> str:
    """KEY=VALUE each -> one mapping as YAML."""
    return f"{{{', '.join(option.replace('=', ': ', 1) for option in options)}}}"


def sigma(size: str) -> float:
    """Width x height of the input -> deviation of a joint's spot in cells, between 1.5 at 96x128 and 2 at 192x256."""
    return {"128x96": 1.5, "160x128": 1.75}.get(size, 2.0)


def images_per_second(network: str, option: list[str], size: str) -> float:
    """What the trainer reaches on all cores, loading included."""
    words = [word for o in option for word in ("--option", o)]
    how = ("--input-size", size, "--batch-size", str(BATCH), "--data", "pose-train", "--json")
    said = featherpose("benchmark", "train", network, *words, *how, output=subprocess.PIPE)
    return json.loads(said)["loading"]["samples_per_s"]


def featherpose(*words: str, output: int | None = None) -> str:
    """The command line with a process per core."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(available_threads())]
    command = [sys.executable, *several, "-m", "featherpose", *words]
    done = subprocess.run(command, check=True, stdout=output, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return done.stdout or ""


if __name__ == "__main__":
    main()
