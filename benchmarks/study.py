"""The study of attention in Lite-HRNet (docs/study.md): its runs, and its tables.

    python benchmarks/study.py list                       the runs of each step, and which are done
    python benchmarks/study.py run 0-fuse                 a step: two runs side by side, each with one thread
    python benchmarks/study.py train iterative-cbam --seed 1 --epochs 12     one run
    python benchmarks/study.py table 2                    the scores of a step and their differences
    python benchmarks/study.py latency                    ms of each row at 256x192, and ratios to plain Lite-HRNet-18

An interrupted run resumes where it stopped. All runs train on COCO's human labels at 128x96 and keep the last weights;
the images whose hash is divisible by 5 are the validation set. Runs with the same seed have the same sample order and
augmentation, and start from the same weights wherever names and shapes agree with Lite-HRNet's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BASELINE = "lite_hrnet_18"
CBAM = "cbam_lite_hrnet_18"

LR = 2e-3
"""Learning rate of all rows after step 0."""
OTHER_HEAD = "native"
"""The best head of step 1 beside `iterative`."""


def with_attention(head: str, attention: str = "cbam", **options: Any) -> tuple[str, dict[str, Any]]:
    """CBAM-LiteHRNet with the published fuse sum, which step 0 chose, and gates that start open; a norm after the last
    layer where branches are concatenated."""
    norm = head != "iterative"
    known = {"head": head, "attention": attention, "open_gates": True, "norm": norm, "fuse": "published"}
    return CBAM, {**known, **options}


ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "lite_hrnet_18": (BASELINE, {"fuse": "published"}),
    "lite_hrnet_18-halved": (BASELINE, {"fuse": "halved"}),
    "iterative-cbam": with_attention("iterative"),
    "iterative-cbam-halved": with_attention("iterative", fuse="halved"),
    "iterative-cbam-gate_norm": with_attention("iterative", gate_norm=True),
    "iterative-se": with_attention("iterative", "se"),
    "iterative-coordinate": with_attention("iterative", "coordinate"),
    "block-cbam": with_attention("iterative", attention_at="block"),
    **{f"{head}-cbam": with_attention(head) for head in ("concat", "native", "iterative_concat")},
    f"{OTHER_HEAD}-none": with_attention(OTHER_HEAD, "none"),
}
"""Name of a row of the study -> network and options."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    row: str
    seed: int = 0
    epochs: int = 6
    lr: float = LR

    @property
    def name(self) -> str:
        return f"{self.row}-seed{self.seed}-{self.epochs}epochs-lr{self.lr:g}"


def runs_of(rows: Sequence[str], seeds: int, epochs: int, lr: float = LR) -> list[Run]:
    """All rows of one seed before the next seed, so that an unfinished step still compares rows."""
    return [Run(row, seed, epochs, lr) for seed in range(seeds) for row in rows]


@dataclass(frozen=True)
class StepOfStudy:
    """Runs, and the row that the others are compared with."""

    runs: list[Run] = field(default_factory=list[Run])
    reference: str = BASELINE


STEPS = {
    "0-fuse": StepOfStudy(
        runs_of(
            [BASELINE, f"{BASELINE}-halved", "iterative-cbam", "iterative-cbam-halved", "iterative-cbam-gate_norm"],
            seeds=1,
            epochs=2,
            lr=2e-3,
        )
    ),
    "0-rate": StepOfStudy([Run(row, 0, 2, lr) for row in (BASELINE, "iterative-cbam") for lr in (1e-3, 2e-3, 4e-3)]),
    "1": StepOfStudy(
        runs_of([BASELINE, "iterative-cbam", "concat-cbam", "native-cbam", "iterative_concat-cbam"], seeds=1, epochs=6)
    ),
    "2": StepOfStudy(
        runs_of([BASELINE, "iterative-cbam", f"{OTHER_HEAD}-none", f"{OTHER_HEAD}-cbam"], seeds=4, epochs=12)
    ),
    "3": StepOfStudy(runs_of(["iterative-se", "iterative-coordinate", "block-cbam"], seeds=2, epochs=12)),
}


def recipe_of(run: Run, initial: Path) -> Any:
    """Run, and the file of its initial weights -> its recipe."""
    from featherpose.recipes.pose import PoseData, PoseRecipe, PoseStage, PoseValidation
    from featherpose.recipes.recipe import Optimizer, Schedule
    from featherpose.recipes.shipped import MILD
    from featherpose.size import Size

    network, options = ROWS[run.row]
    stage = PoseStage(input_size=Size(height=128, width=96), epochs=run.epochs, batch_size=32, sigma=1.5)
    return PoseRecipe(
        network=network,
        options=options,
        codec="dark",
        data=PoseData(labels="ground_truth", sources=("coco",), keypoint_boxes=(), val_fraction=0.2),
        stages=(stage,),
        augmentation=MILD,
        optimizer=Optimizer(lr=run.lr),
        schedule=Schedule(name="cosine", warmup=200, min_lr_ratio=0.0),
        pretrained=str(initial),
        validation=PoseValidation(interval=run.epochs, select_best=False),
        seed=run.seed,
    )


def initial_weights(folder: Path, seed: int) -> Path:
    """The file of Lite-HRNet's random weights of a seed, written the first time."""
    import torch

    from featherpose.networks import create_network
    from featherpose.networks.checkpoints import save_weights

    path = folder / f"initial-seed{seed}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        save_weights(create_network(BASELINE), path)
    return path


def train(run: Run, folder: Path) -> None:
    """Train, or resume, one run; then write the OKS of each person of the validation set."""
    import torch

    from featherpose.evaluation.pck import oks_of_persons
    from featherpose.networks.checkpoints import load_weights
    from featherpose.training import loop
    from featherpose.training.tasks.pose import PoseTask
    from featherpose.training.tasks.pose_validation import predict_keypoints

    out = folder / run.name
    recipe = recipe_of(run, initial_weights(folder, run.seed))
    outcome = loop.train(recipe, out, resume=(out / "state.safetensors").exists(), workers=0)
    if not outcome.finished:
        sys.exit(1)
    task = PoseTask(recipe, torch.device("cpu"))
    network = task.create_network()
    load_weights(network, outcome.weights)
    data = task.prepare(recipe.stages[0]).validation_set
    keypoints = predict_keypoints(network, data, torch.device("cpu"))
    scores = oks_of_persons(keypoints, data.keypoints, data.visible, data.areas, data.skeleton.sigmas)
    np.save(out / "oks.npy", scores)


def run_step(step: StepOfStudy, folder: Path, side_by_side: int = 2) -> int:
    """Train the runs that are not done, two at a time; at SIGTERM they stop after the current step."""
    waiting = [run for run in step.runs if not (folder / run.name / "oks.npy").exists()]
    running: list[subprocess.Popen[bytes]] = []

    def stop(*_: object) -> None:
        waiting.clear()
        for process in running:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    failed = 0
    while waiting or running:
        while waiting and len(running) < side_by_side:
            run = waiting.pop(0)
            arguments = [run.row, f"--seed={run.seed}", f"--epochs={run.epochs}", f"--lr={run.lr:g}"]
            command = [sys.executable, __file__, f"--folder={folder}", "train", *arguments]
            running.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}))
        time.sleep(1)
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            failed += process.returncode != 0
    return failed


def scores_of(runs: Iterable[Run], folder: Path) -> dict[Run, NDArray[np.float64]]:
    """Runs -> of those that are finished, OKS (N,) of each person."""
    return {run: np.load(folder / run.name / "oks.npy") for run in runs if (folder / run.name / "oks.npy").exists()}


def print_table(step: StepOfStudy, folder: Path) -> None:
    """Scores of each row, mean over its runs, and the difference from the reference in the runs of equal seeds."""
    from featherpose.evaluation.intervals import paired_difference
    from featherpose.evaluation.pck import oks_accuracies
    from featherpose.networks import create_network
    from featherpose.networks.counts import count_macs, count_parameters
    from featherpose.size import Size

    print(
        "| row | lr | runs | oks_accuracy | OKS | difference of oks_accuracy | of OKS | parameters | M MACs | crops/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    groups = dict.fromkeys((run.row, run.lr) for run in step.runs)
    for row, lr in groups:
        scores = scores_of([run for run in step.runs if (run.row, run.lr) == (row, lr)], folder)
        # Those of the reference may be part of another step.
        references = scores_of([replace(run, row=step.reference) for run in scores], folder)
        network, options = ROWS[row]
        built = create_network(network, **options)
        macs = count_macs(built, Size(height=128, width=96)) / 1e6
        cells = [row, f"{lr:g}", str(len(scores))]
        if scores:
            every = np.stack(list(scores.values()))
            cells += [f"{100 * oks_accuracies(every).mean():.2f}", f"{100 * every.mean():.2f}"]
            pairs = [
                (references[other], oks)
                for run, oks in scores.items()
                if (other := replace(run, row=step.reference)) in references
            ]
            if row != step.reference and pairs:
                first, second = (np.stack(side) for side in zip(*pairs, strict=True))
                for measure in (oks_accuracies, np.asarray):
                    found = paired_difference(100 * measure(first), 100 * measure(second))
                    cells.append(f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})")
            else:
                cells += ["", ""]
        else:
            cells += ["", "", "", ""]
        cells += [f"{count_parameters(built):,}", f"{macs:.1f}", throughput(scores, folder)]
        print("| " + " | ".join(cells) + " |")


def throughput(runs: Iterable[Run], folder: Path) -> str:
    """Finished runs -> median of the samples per second that their logs record, of one process; "" where none is."""
    lines = [line for run in runs for line in (folder / run.name / "log.jsonl").read_text().splitlines()]
    rates = [record["samples_per_s"] for line in lines if "samples_per_s" in (record := json.loads(line))]
    return f"{np.median(rates):.0f}" if rates else ""


def print_latency(rounds: int = 30) -> None:
    """Export each row at 256x192 with random weights and measure all of them in turn, as benchmarks/latency.py does."""
    import latency

    with tempfile.TemporaryDirectory(prefix="featherpose-") as temporary:
        folder = Path(temporary)
        models = {row: folder / f"{row}.onnx" for row in ROWS}
        for row, (network, options) in ROWS.items():
            latency.export_fresh(network, models[row], options=options)
        lines = latency.measure_files(models, folder, rounds)
    print(latency.table(list(lines.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/study"), help="folder of the runs")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("latency")
    for name in ("run", "table"):
        commands.add_parser(name).add_argument("step", choices=STEPS)
    one = commands.add_parser("train")
    one.add_argument("row", choices=ROWS)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--epochs", type=int, default=6)
    one.add_argument("--lr", type=float, default=LR)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.command == "train":
        train(Run(arguments.row, arguments.seed, arguments.epochs, arguments.lr), folder)
    elif arguments.command == "run":
        sys.exit(run_step(STEPS[arguments.step], folder) and 1)
    elif arguments.command == "table":
        print_table(STEPS[arguments.step], folder)
    elif arguments.command == "latency":
        print_latency()
    else:
        for name, step in STEPS.items():
            done = {run for run in step.runs if (folder / run.name / "oks.npy").exists()}
            print(f"step {name}: {len(done)} of {len(step.runs)} runs done")
            for run in step.runs:
                print(f"  {'done' if run in done else '    '} {run.name}")


if __name__ == "__main__":
    main()
