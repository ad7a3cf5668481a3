"""The training loop, top to bottom: prepare, resume, step, validate, keep the best weights, stop.

Everything random is a function of (seed, epoch, sample), so the state of a run is its tensors and one step number, and
a run that was killed and resumed ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherpose import weights
from featherpose.errors import RecipeError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_pretrained, save_weights
from featherpose.recipes.recipe import Optimizer, Recipe
from featherpose.recipes.schedule import epochs, lr_ratio, peak_lr, validation_is_due
from featherpose.size import Size
from featherpose.training import card, checkpoint, ema
from featherpose.training.batches import batches
from featherpose.training.devices import open_device, pick_workers
from featherpose.training.display import Display
from featherpose.training.distill import open_teacher
from featherpose.training.folder import RunFolder
from featherpose.training.freeze import freeze
from featherpose.training.ranks import init_ranks
from featherpose.training.records import STEPS_BETWEEN_RECORDS, Records
from featherpose.training.tasks import pose
from featherpose.training.train_step import TrainStep

SECONDS_BETWEEN_SAVES = 120
STEPS_BETWEEN_LOSS_READS = 10
"""On a GPU, the loss is read only every so many steps: each read synchronizes with the GPU."""


@dataclass(frozen=True)
class Outcome:
    """Result of `train`: whether the run is finished, its folder, and its best validation result."""

    finished: bool
    folder: Path
    best: dict[str, Any]


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    compiled: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Recipe and folder -> Outcome; the folder gets state, best and last weights, log.jsonl, card.json and card.md.

    `resume` continues from the state in the folder. After `max_minutes`, or on Ctrl-C, the run stops after the current
    step. `compiled` runs the network through torch.compile. This is the only long function of the project: it is meant
    to be read from top to bottom.
    """
    started, torch_device = time.monotonic(), open_device(device)
    workers = pick_workers(torch_device) if workers is None else workers
    ranks = init_ranks(torch_device)
    files = RunFolder(out)
    files.prepare(recipe, resume)

    # Data, network, EMA network, optimizer, teacher.
    labeled = pose.read_samples(recipe)
    plan = epochs(recipe, labeled.epoch_length, ranks.count)
    display = Display(plan, quiet or not ranks.is_first)
    display.run_started(recipe, labeled, f"{torch_device} x {ranks.count}", workers)
    torch.manual_seed(recipe.seed)
    network = create_network(recipe.network, labeled.skeleton.num_keypoints, **recipe.options)
    if recipe.pretrained:
        path = weights.find_pretrained(recipe.pretrained)
        display.pretrained_loaded(path, load_pretrained(network, path, labeled.skeleton.keypoint_names))
    network = prepare_network(network, recipe, torch_device)
    ema_network = copy.deepcopy(network).eval()
    optimizer = make_optimizer(network, recipe.optimizer)
    train_step = TrainStep(
        network, recipe, open_teacher(recipe.distill, labeled.skeleton, torch_device), torch_device, compiled
    )

    # State of the run: new, or restored from the last saved step.
    facts: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": {}, "history": []}
    if resume and files.state.exists():
        facts = checkpoint.restore(files.state, network, ema_network, optimizer)
        display.message(f"Resuming from step {facts['step']} of {plan[-1].last}.")
    records = Records(out, facts["step"], facts["history"]) if ranks.is_first else None
    step, saved, previous_seconds, loss_value = facts["step"], time.monotonic(), facts["seconds"], float("nan")

    def seconds() -> float:
        return previous_seconds + time.monotonic() - started

    def save() -> None:
        if ranks.is_first:
            facts.update(step=step, seconds=seconds())
            checkpoint.save(files.state, network, ema_network, optimizer, facts)

    stage_data: pose.StageData | None = None
    with _interruptible() as interrupted, display:
        for epoch in plan:
            validate_now = validation_is_due(recipe.validation, epoch, plan)
            if step >= epoch.last and (not validate_now or epoch.number in {r["epoch"] for r in facts["history"]}):
                continue
            if stage_data is None or stage_data.stage is not epoch.stage:
                stage_data = pose.prepare(recipe, labeled, epoch.stage, display.decoding)
                display.skipped(stage_data.unreadable)
            tick = time.monotonic()
            for batch in batches(
                stage_data.training_set,
                stage_data.codec,
                recipe,
                epoch,
                step,
                workers,
                ranks,
                torch_device.type == "cuda",
            ):
                waited = time.monotonic() - tick
                lr = peak_lr(recipe.optimizer, epoch.stage) * lr_ratio(recipe.schedule, step, plan)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad()
                loss = train_step(*batch, parts=epoch.stage.accumulate_grad)
                time_is_up = max_minutes is not None and time.monotonic() - started > 60 * max_minutes
                stop = ranks.average_gradients(network, interrupted.is_set() or time_is_up)
                if recipe.optimizer.clip_grad_norm:
                    nn.utils.clip_grad_norm_(network.parameters(), recipe.optimizer.clip_grad_norm)
                optimizer.step()
                ema.update(ema_network, network, recipe.ema_decay, step)
                step += 1
                save_now = stop or time.monotonic() - saved > SECONDS_BETWEEN_SAVES
                if save_now or torch_device.type == "cpu" or step % STEPS_BETWEEN_LOSS_READS == 0:
                    loss_value = _require_finite(loss.item(), step)
                figures = display.step(epoch, step - 1, loss_value, lr, time.monotonic() - tick, waited)
                if step % STEPS_BETWEEN_RECORDS == 0 and records:
                    records.add({"step": step, "epoch": epoch.number, "loss": loss_value, "lr": lr, **figures})
                if save_now:
                    save()
                    saved = time.monotonic()
                if stop:
                    display.stopped(step, out)
                    return Outcome(False, out, facts["best"])
                tick = time.monotonic()

            # End of an epoch: validate the EMA weights, keep them if they are the best of this input size.
            if validate_now:
                ranks.broadcast_from_first(ema_network)
                scores = pose.validate(ema_network, stage_data.validation_set, torch_device, ranks)
                result = {"step": step, "epoch": epoch.number, "input_size": epoch.stage.input_size.to_dict(), **scores}
                result["hours"] = round(seconds() / 3600, 2)
                facts["history"].append(result)
                display.validated(epoch, scores)
                if records:
                    records.add(result)
                if ranks.is_first and _is_better(result, facts["best"]):
                    facts["best"] = result
                    save_weights(ema_network, files.best, card.metadata(recipe, labeled, epoch, result))
            save()
            saved = time.monotonic()

    if ranks.is_first:
        save_weights(ema_network, files.last, card.metadata(recipe, labeled, plan[-1], facts["history"][-1]))
        files.write_card(card.card(recipe, labeled, facts, torch_device))
    display.message(f"Training finished. Best weights: {files.best}, run card: {files.path / 'card.md'}")
    return Outcome(True, out, facts["best"])


def prepare_network(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """The network on its device, in channels-last memory format and in training mode except for frozen stages.

    RecipeError for `sync_bn` on a CPU and for `frozen_stages` that the network does not support.
    """
    if recipe.sync_bn:
        if device.type == "cpu":
            raise RecipeError("sync_bn: true works on GPUs only; set it to false.")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network = network.to(device).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    freeze(network, recipe)
    return network


def make_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Network and settings -> optimizer with weight decay on matrices and kernels only; it harms norms and biases."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _require_finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise RecipeError(f"The loss is {loss} at step {step}; try a lower optimizer.lr or optimizer.clip_grad_norm=1.")
    return loss


def _is_better(result: dict[str, Any], best: dict[str, Any]) -> bool:
    """A larger input size ranks above any score: the run is meant to end there. Without OKS accuracy, PCK decides."""

    def rank(r: dict[str, Any]) -> tuple[int, float, float]:
        return Size(**r["input_size"]).area, r.get("oks_accuracy", 0.0), r["pck"]

    return not best or rank(result) > rank(best)


@contextmanager
def _interruptible() -> Generator[threading.Event, None, None]:
    """SIGINT (Ctrl-C) and SIGTERM set the event instead of interrupting a step."""
    event, signals = threading.Event(), (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: object) -> None:
        event.set()

    before = {number: signal.signal(number, note) for number in signals}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
