"""The training loop, top to bottom: prepare, go on from where it stopped, step, validate, keep the best, stop.

Everything random is a function of (seed, epoch, person), so the state of a run is its tensors and one step number,
and a run that was killed ends with the weights of one that was not.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featherpose.errors import RecipeError
from featherpose.networks import create_model
from featherpose.networks.checkpoints import load_weights, save_weights
from featherpose.networks.preprocess import Normalise
from featherpose.train import card, checkpoint, ema
from featherpose.train.batches import batches
from featherpose.train.devices import open_device, pick_workers
from featherpose.train.display import Display
from featherpose.train.folder import RunFolder
from featherpose.train.losses import LOSSES
from featherpose.train.ranks import join
from featherpose.train.recipe import Optimizer, Recipe
from featherpose.train.schedule import epochs, rate
from featherpose.train.tasks import pose

SECONDS_BETWEEN_SAVES = 120


@dataclass(frozen=True)
class Outcome:
    """Where a run stands: finished or not, the folder with its files, and the best scores on the validation part."""

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
    quiet: bool = False,
) -> Outcome:
    """Recipe and folder -> Outcome; in the folder: state, best and last weights, log.jsonl, card.json.

    `resume` goes on from the folder's state. After `max_minutes`, or Ctrl-C, the run stops behind the step it is in.
    This is the one long function of the house: it is meant to be read from top to bottom.
    """
    began, place = time.monotonic(), open_device(device)
    workers = pick_workers() if workers is None else workers
    ranks = join(place)
    files = RunFolder(out)
    files.prepare(recipe, resume)

    # The people, the network, its averaged twin, the optimizer.
    labelled = pose.read_people(recipe)
    plan = epochs(recipe, len(labelled.training))
    display = Display(plan, quiet or not ranks.is_first)
    display.greet(recipe, labelled, f"{place} x {ranks.count}", workers)
    torch.manual_seed(recipe.seed)
    network = create_model(recipe.network, labelled.skeleton.num_joints, **recipe.options)
    if recipe.init:
        load_weights(network, recipe.init)
    network = network.to(place).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    average = copy.deepcopy(network).eval()
    optimizer = _optimizer(network, recipe.optimizer)
    loss_of, normalise = LOSSES[recipe.loss], Normalise().to(place)

    # Where it stands: from the beginning, or behind the last step that was saved.
    facts: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": {}, "history": []}
    if resume and files.state.exists():
        facts = checkpoint.restore(files.state, network, average, optimizer)
        display.say(f"Going on behind step {facts['step']} of {plan[-1].last}.")
    if ranks.is_first:
        files.forget_after(facts["step"], facts["history"])
    step, saved, worked = facts["step"], time.monotonic(), facts["seconds"]

    def seconds() -> float:
        return worked + time.monotonic() - began

    def save() -> None:
        if not ranks.is_first:
            return
        facts.update(step=step, seconds=seconds())
        checkpoint.save(files.state, network, average, optimizer, facts)

    ready: pose.Ready | None = None
    with _interruptible() as interrupted, display:
        for epoch in plan:
            if epoch.number < len(facts["history"]):
                continue
            if ready is None or ready.stage is not epoch.stage:
                ready = pose.prepare(recipe, labelled, epoch.stage, display.decoding)
            tick = time.monotonic()
            for crops, targets, weights in batches(ready.people, ready.codec, recipe, epoch, step, workers, ranks):
                waited = time.monotonic() - tick
                now = recipe.optimizer.rate * rate(recipe.schedule, step, plan)
                for group in optimizer.param_groups:
                    group["lr"] = now
                heatmaps = network(normalise(crops.to(place)))
                loss = loss_of(heatmaps, targets.to(place), weights.to(place))
                optimizer.zero_grad()
                loss.backward()
                late = max_minutes is not None and time.monotonic() - began > 60 * max_minutes
                stop = ranks.agree(network, interrupted.is_set() or late)
                optimizer.step()
                ema.update(average, network, recipe.ema, step)
                value = loss.item()
                if not np.isfinite(value):
                    raise RecipeError(f"The loss is {value} at step {step}; a smaller optimizer.rate may help.")
                step += 1
                figures = display.step(epoch, step, value, time.monotonic() - tick, waited)
                if step % 50 == 0 and ranks.is_first:
                    files.log({"step": step, "epoch": epoch.number, "loss": value, "rate": now, **figures})
                if stop:
                    save()
                    display.say(f"Stopped behind step {step} of {plan[-1].last}; go on with:")
                    display.say(f"featherpose train --resume --out {out}")
                    return Outcome(False, out, facts["best"])
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    save()
                    saved = time.monotonic()
                tick = time.monotonic()

            # An epoch is done: judge the averaged weights, keep them if they are the best of this input size.
            if ranks.is_first:
                scores = pose.validate(average, ready.validation, place)
                result = {"step": step, "epoch": epoch.number, "size": list(epoch.stage.size), **scores}
                result["hours"] = round(seconds() / 3600, 2)
                facts["history"].append(result)
                files.log(result)
                display.judged(epoch, scores)
                if _is_better(result, facts["best"]):
                    facts["best"] = result
                    save_weights(average, files.best, card.metadata(recipe, labelled, epoch, result))
            save()
            saved = time.monotonic()

    if ranks.is_first:
        save_weights(average, files.last, card.metadata(recipe, labelled, plan[-1], facts["history"][-1]))
        files.write_card(card.card(recipe, labelled, facts, place))
    display.say(f"Done: {files.best} and {files.card}")
    return Outcome(True, out, facts["best"])


def _optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels alone: on norms and biases it only does harm."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.rate, fused=True)


def _is_better(result: dict[str, Any], best: dict[str, Any]) -> bool:
    """A larger input counts more than any score: the run is meant to end there."""

    def rank(r: dict[str, Any]) -> tuple[int, float]:
        return r["size"][0] * r["size"][1], np.nan_to_num(r["ap"] + r["pck"] / 1000)

    return not best or rank(result) > rank(best)


@contextmanager
def _interruptible() -> Generator[threading.Event, None, None]:
    """Ctrl-C and a polite kill set the event instead of breaking off inside a step."""
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
