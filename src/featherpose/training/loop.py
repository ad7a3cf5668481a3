"""The training loop, top to bottom: prepare, resume, step, validate, keep the best weights, stop.

Everything random is a function of (seed, epoch, sample), so the state of a run is its tensors and one step number, and
a run that was killed and resumed ends with the weights of an uninterrupted one. What is trained is a `Task`.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherpose import weights
from featherpose.errors import RecipeError
from featherpose.networks.checkpoints import load_pretrained, save_weights
from featherpose.recipes.recipe import Optimizer, Recipe
from featherpose.recipes.schedule import epochs, lr_ratio, peak_lr, until_end_of_stage
from featherpose.training import card
from featherpose.training.devices import open_device, pick_workers
from featherpose.training.display import Display
from featherpose.training.ema import Ema
from featherpose.training.folder import RunFolder
from featherpose.training.freeze import freeze
from featherpose.training.ranks import init_ranks
from featherpose.training.records import STEPS_BETWEEN_RECORDS, Records
from featherpose.training.state import RunState
from featherpose.training.task import Batch
from featherpose.training.tasks import open_task
from featherpose.training.train_step import TrainStep

SECONDS_BETWEEN_SAVES = 120
STEPS_BETWEEN_LOSS_READS = 10
"""On a GPU, the loss is read only every so many steps: each read synchronizes with the GPU."""


@dataclass(frozen=True)
class Outcome:
    """Result of `train`: whether the run is finished, its folder, the weights to export and their validation result."""

    finished: bool
    folder: Path
    weights: Path
    best: dict[str, Any]
    """The best validation result; the last one where the recipe selects no weights by it."""


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    accept_changed_data: bool = False,
    rebuild_cache: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    compiled: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Recipe and folder -> Outcome; the folder gets state, best and last weights, log.jsonl, card.json and card.md.

    `resume` continues from the state in the folder; DataError if the data set has changed since, unless
    `accept_changed_data`. `rebuild_cache` decodes all images once more. After `max_minutes`, or on Ctrl-C, the run
    stops after the current step. `compiled` runs the network through torch.compile. This is the longest function of
    the project: it is meant to be read from top to bottom.
    """
    started = time.monotonic()
    torch_device = open_device(device)
    workers = pick_workers(torch_device) if workers is None else workers
    ranks = init_ranks(torch_device)
    if rebuild_cache and ranks.count > 1:
        raise RecipeError(
            "Several processes would rebuild the cache of each other: rebuild it in one, then start them."
        )
    files = RunFolder(out)
    files.prepare(recipe, resume)
    exported = files.best if recipe.validation.select_best else files.last

    # Labels first: most mistakes in a recipe show there, before anything slow happens.
    task = open_task(recipe, torch_device)
    plan = epochs(recipe, task.steps, ranks.count)
    display = Display(plan, quiet or not ranks.is_first)
    display.run_started(task, f"{torch_device} x {ranks.count}", workers)

    # The seed decides the initial weights; pretrained weights replace those that fit.
    torch.manual_seed(recipe.seed)
    network = task.create_network()
    if recipe.pretrained:
        path = weights.find_pretrained(recipe.pretrained)
        display.pretrained_loaded(path, load_pretrained(network, path, task.keypoint_names))
    network = prepare_network(network, recipe, torch_device)
    train_step = TrainStep(network, task.loss, torch_device, recipe.precision, compiled)

    # The state of the run: new, or as it was after the last saved step.
    optimizer = make_optimizer(network, recipe.optimizer)
    state = RunState(network, copy.deepcopy(network).eval(), optimizer, task.fingerprint)
    if resume and files.state.exists():
        state.restore(files.state, accept_changed_data=accept_changed_data)
        display.message(f"Resuming from step {state.step} of {plan[-1].last}.")
    ema = Ema(state.ema_network, network)
    seconds_before = state.seconds
    saved = time.monotonic()
    loss_value = float("nan")

    def save() -> None:
        nonlocal saved
        state.seconds = seconds_before + time.monotonic() - started
        if ranks.is_first:
            state.save(files.state)
        saved = time.monotonic()

    stage_data = None
    prepared_stage = None
    batches: Iterator[Batch] = iter(())
    with _interruptible() as interrupted, display, ExitStack() as in_use, ExitStack() as loading:
        records = None
        if ranks.is_first:
            in_use.enter_context(files.in_use())
            records = Records(out, state.step, state.history)
        for epoch in plan:
            # A resumed run skips what it has done.
            if state.has_finished(epoch):
                continue

            # The first epoch of a stage opens its data, at its input size, and its workers, which stay until the last.
            if stage_data is None or prepared_stage is not epoch.stage:
                loading.close()
                stage_data = task.prepare(epoch.stage, display.decoding, rebuild_cache=rebuild_cache)
                prepared_stage = epoch.stage
                display.data_opened(stage_data.broken, stage_data.notes)
                rest = until_end_of_stage(plan, epoch)
                pin = torch_device.type == "cuda"
                batches = loading.enter_context(closing(stage_data.batches(rest, state.step, workers, ranks, pin)))

            tick = time.monotonic()
            for batch in islice(batches, epoch.last - state.step):
                waited = time.monotonic() - tick

                # The learning rate is a function of the step; a group of weights may have a fraction of it.
                lr = peak_lr(recipe.optimizer, epoch.stage) * lr_ratio(recipe.schedule, state.step, plan)
                for group in state.optimizer.param_groups:
                    group["lr"] = lr * group["lr_ratio"]

                # Gradients of this process, then their mean over all processes, which also agree on stopping.
                state.optimizer.zero_grad()
                loss = train_step(batch, parts=epoch.stage.accumulate_grad)
                time_is_up = max_minutes is not None and time.monotonic() - started > 60 * max_minutes
                stop = ranks.average_gradients(network, interrupted.is_set() or time_is_up)
                if recipe.optimizer.clip_grad_norm:
                    nn.utils.clip_grad_norm_(network.parameters(), recipe.optimizer.clip_grad_norm)

                # The step itself; the EMA weights follow.
                state.optimizer.step()
                ema.update(recipe.ema_decay, state.step)
                state.step += 1

                # Show and record where the run is.
                save_now = stop or time.monotonic() - saved > SECONDS_BETWEEN_SAVES
                if save_now or torch_device.type == "cpu" or state.step % STEPS_BETWEEN_LOSS_READS == 0:
                    loss_value = _require_finite(loss.item(), state.step)
                figures = display.step(epoch, state.step - 1, loss_value, lr, time.monotonic() - tick, waited)
                if state.step % STEPS_BETWEEN_RECORDS == 0 and records:
                    records.add({"step": state.step, "epoch": epoch.number, "loss": loss_value, "lr": lr, **figures})

                # Save regularly: a killed run loses two minutes at most.
                if save_now:
                    save()
                if stop:
                    display.stopped(state.step, out)
                    return Outcome(False, out, exported, state.best)
                tick = time.monotonic()

            # The EMA weights are what is validated; the best ones are kept, unless the recipe wants the last ones.
            if epoch.ends_with_validation:
                ranks.broadcast_from_first(state.ema_network)
                scores = stage_data.validate(state.ema_network, torch_device, ranks)
                result = {"step": state.step, "epoch": epoch.number, "input_size": epoch.stage.size.to_dict(), **scores}
                result["hours"] = round((seconds_before + time.monotonic() - started) / 3600, 2)
                state.history.append(result)
                display.validated(epoch, scores)
                if records:
                    records.add(result)
                if not recipe.validation.select_best:
                    state.best = result
                elif not state.best or task.is_better(result, state.best):
                    state.best = result
                    if ranks.is_first:
                        save_weights(state.ema_network, files.best, card.metadata(task, epoch, result))
            save()

    # The run is finished: the last weights and the run card.
    if ranks.is_first:
        save_weights(state.ema_network, files.last, card.metadata(task, plan[-1], state.history[-1]))
        files.write_card(card.card(task, state, torch_device, stage_data))
    display.message(f"Training finished. Weights to export: {exported}, run card: {files.path / 'card.md'}")
    return Outcome(True, out, exported, state.best)


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
    """Network and settings -> optimizer with weight decay on matrices and kernels only; it harms norms and biases.

    Each group of weights has `lr_ratio`, its learning rate as a fraction of the run's: lower for a backbone where
    `backbone_lr_ratio` says so.
    """
    backbone: set[nn.Parameter] = set()
    if settings.backbone_lr_ratio != 1:
        backbone = set(_backbone(network).parameters())
    groups: list[dict[str, Any]] = []
    for ratio, chosen in ((1.0, set(network.parameters()) - backbone), (settings.backbone_lr_ratio, backbone)):
        parameters = [parameter for parameter in network.parameters() if parameter in chosen]
        kernels = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups.append({"params": kernels, "weight_decay": settings.weight_decay, "lr_ratio": ratio})
        groups.append({"params": others, "weight_decay": 0.0, "lr_ratio": ratio})
    groups = [group for group in groups if group["params"]]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _backbone(network: nn.Module) -> nn.Module:
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise RecipeError("optimizer.backbone_lr_ratio: this network has no backbone; remove it.")
    return backbone


def _require_finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise RecipeError(f"The loss is {loss} at step {step}; try a lower optimizer.lr or optimizer.clip_grad_norm=1.")
    return loss


@contextmanager
def _interruptible() -> Generator[threading.Event, None, None]:
    """SIGINT (Ctrl-C) and SIGTERM set the event instead of interrupting a step."""
    event = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
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
