"""Progress of a training run on stderr: a live bar in a terminal, otherwise a line at intervals."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from featherpose.charts import METRIC_NAMES, format_score
from featherpose.networks.checkpoints import PretrainedReport
from featherpose.recipes.schedule import Epoch, peak_lr
from featherpose.training.task import Task

SECONDS_BETWEEN_LINES = 30
HIGH_DATA_WAIT = 5.0
"""Data wait in percent of the time, above which the display suggests more workers."""
SHOWN = 10
"""At most so many images that cannot be used are named."""


class Display:
    """Loss, throughput, data wait and remaining time of a run with the given epochs."""

    def __init__(self, plan: list[Epoch], quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.plan = plan
        self.score = ""
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=50)  # samples, seconds, seconds waited
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), console=self.console
        )
        self._task: TaskID | None = None

    def message(self, sentence: str) -> None:
        """Print a message above the progress bar."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def run_started(self, task: Task, device: str, workers: int) -> None:
        """Print the notes of the data set, then a summary of the run in three lines."""
        recipe = task.recipe
        for note in task.notes:
            self.console.print(note, highlight=False, markup=False, soft_wrap=True)
        options = "".join(f" {key}={value}" for key, value in recipe.options.items())
        counts = Counter(task.sources)
        by_source = ", ".join(f"{count} {source}" for source, count in sorted(counts.items()))
        if task.num_left_out:
            by_source += f"; {task.num_left_out} records left out"
        self.message(
            f"Training {recipe.network}{options} on {len(task.sources)} samples ({by_source}), validating on "
            f"{task.num_validation}; {len(self.plan)} epochs, {self.plan[-1].last} steps."
        )
        self.message(f"Device {device}, {torch.get_num_threads()} threads, {workers} data loading workers.")
        lrs = {stage.batch_size: peak_lr(recipe.optimizer, stage) for stage in recipe.stages}
        scaled = (
            f" (scaled from lr {recipe.optimizer.lr:g} at batch size {recipe.optimizer.lr_base_batch_size})"
            if recipe.optimizer.lr_base_batch_size
            else ""
        )
        lr_text = "; ".join(f"batch size {batch}, lr {value:g}" for batch, value in lrs.items())
        self.message(f"Optimizer {recipe.optimizer.name}: {lr_text}{scaled}.")

    def pretrained_loaded(self, path: Path, report: PretrainedReport) -> None:
        """Print how many tensors were loaded, and which were randomly initialized or ignored."""
        fresh = f"; randomly initialized: {_by_layer(report.fresh)}" if report.fresh else ""
        ignored = f"; ignored: {_by_layer(report.ignored)}" if report.ignored else ""
        found = f" ({report.found})" if report.found else ""
        self.message(f"Pretrained weights {path}{found}: {len(report.loaded)} tensors loaded{fresh}{ignored}.")

    def stopped(self, step: int, out: Path) -> None:
        """Print where the run stopped and the command that resumes it."""
        self.message(f"Stopped after step {step} of {self.plan[-1].last}; resume with:")
        self.console.print(f"featherpose train --resume --out {out}", highlight=False, soft_wrap=True)

    def data_opened(self, broken: Sequence[str], notes: Sequence[str]) -> None:
        """Print how many samples are left out because their image cannot be used, the first of them, and notes."""
        for note in notes:
            self.message(note)
        if broken:
            self.message(f"Left out: {len(broken)} samples whose image cannot be used.")
        for line in broken[:SHOWN]:
            self.message(f"  {line}")
        if len(broken) > SHOWN:
            self.message(f"  ... and {len(broken) - SHOWN} more")

    def decoding(self, done: int, total: int) -> None:
        """Show the progress of decoding images into the cache."""
        self._show("Decoding images", "once per input size", done, total)

    def validated(self, epoch: Epoch, scores: dict[str, float]) -> None:
        """Print the validation scores of an epoch."""
        shown = {name: value for name, value in scores.items() if name not in ("oks", "box_ap50")}
        self.score = "".join(f"{METRIC_NAMES[name]} {format_score(name, value)}  " for name, value in shown.items())
        score_text = ", ".join(f"{METRIC_NAMES[name]} {format_score(name, value)}" for name, value in scores.items())
        self.message(f"Epoch {epoch.number + 1}/{len(self.plan)} validation: {score_text}")

    def step(self, epoch: Epoch, step: int, loss: float, lr: float, seconds: float, waited: float) -> dict[str, float]:
        """Show a finished step -> samples per second, data wait in percent of the time, seconds left."""
        self._steps.append((epoch.stage.batch_size, seconds, waited))
        samples, elapsed, waiting = (sum(column) for column in zip(*self._steps, strict=True))
        figures = {"samples_per_s": samples / elapsed, "waiting": 100 * waiting / elapsed}
        left = self._seconds_left(step, samples / elapsed, epoch)
        facts = (
            f"loss {loss:.6f}  lr {lr:.3g}  {self.score}{figures['samples_per_s']:.0f} samples/s  "
            f"data wait {figures['waiting']:.0f} %{_data_wait_hint(figures['waiting'])}  ETA {_format_duration(left)}"
        )
        name = f"Epoch {epoch.number + 1}/{len(self.plan)} ({epoch.stage.size})"
        self._show(name, facts, step + 1 - epoch.first, epoch.steps)
        return {**figures, "seconds_left": left}

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, name: str, facts: str, done: int, steps: int) -> None:
        if self.console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(name, facts=facts)
                self._bar.start()
            self._bar.update(self._task, description=name, completed=done, total=steps, facts=facts)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or done == steps:
            self._last_line = time.monotonic()
            self.console.print(f"{name}  {done}/{steps}  {facts}", highlight=False, soft_wrap=True)

    def _seconds_left(self, step: int, speed: float, now: Epoch) -> float:
        """Seconds left at the current throughput, assuming that a step costs time in proportion to its pixels."""
        here = now.stage.size.area
        left = 0.0
        for epoch in self.plan[now.number :]:
            steps = epoch.last - max(epoch.first, step + 1)
            left += steps * epoch.stage.batch_size * epoch.stage.size.area
        return left / here / speed


def _data_wait_hint(waiting: float) -> str:
    """Data wait in percent -> the hint that reduces it, or ""."""
    return " (more --workers may help)" if waiting > HIGH_DATA_WAIT else ""


def _format_duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"


def _by_layer(tensors: list[str]) -> str:
    """Names of tensors -> their layers, by the first two parts of the name, with the number of tensors in each."""
    layers = Counter(".".join(name.split(".")[:-1][:2]) for name in tensors)
    return ", ".join(f"{layer} ({number})" for layer, number in layers.items())
