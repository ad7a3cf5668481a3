"""Schedule of a run: which step belongs to which stage and epoch, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from featherpose.errors import RecipeError
from featherpose.recipes.recipe import Optimizer, Recipe, Schedule, Stage


@dataclass(frozen=True)
class Epoch:
    """One pass over the training set: its `number` in the run, from 0, its `first` step and its number of `steps`."""

    number: int
    stage: Stage
    first: int
    steps: int
    ends_with_validation: bool = True

    @property
    def last(self) -> int:
        """The step after the last one of this epoch."""
        return self.first + self.steps


def epochs(recipe: Recipe, steps_per_epoch: Callable[[Stage], int], processes: int = 1) -> list[Epoch]:
    """Recipe and the number of steps of an epoch of each stage -> the epochs of the run in order.

    RecipeError if a batch size is not divisible by processes times accumulation steps.
    """
    for stage in recipe.stages:
        if stage.batch_size % (processes * stage.accumulate_grad):
            raise RecipeError(
                f"Batch size {stage.batch_size} is not divisible by {processes} processes x {stage.accumulate_grad} "
                "accumulation steps; choose another stages.N.batch_size or stages.N.accumulate_grad."
            )
    return list(_epochs(recipe, steps_per_epoch))


def until_end_of_stage(plan: list[Epoch], epoch: Epoch) -> list[Epoch]:
    """Epochs of a run -> this one and those that follow it in the same stage."""
    return list(takewhile(lambda later: later.stage is epoch.stage, plan[epoch.number :]))


def full_batches(samples: int) -> Callable[[Stage], int]:
    """Number of samples per epoch -> number of steps of an epoch: an incomplete last batch is dropped."""
    return lambda stage: max(1, samples // stage.batch_size)


def _epochs(recipe: Recipe, steps_per_epoch: Callable[[Stage], int]) -> Iterator[Epoch]:
    last = sum(stage.epochs for stage in recipe.stages) - 1
    number = 0
    first = 0
    for stage in recipe.stages:
        steps = steps_per_epoch(stage)
        for _ in range(stage.epochs):
            is_due = (number + 1) % recipe.validation.interval == 0 or number == last
            yield Epoch(number, stage, first, steps, is_due)
            number += 1
            first += steps


def peak_lr(optimizer: Optimizer, stage: Stage) -> float:
    """Peak learning rate of a stage: scaled linearly with its batch size where `lr_base_batch_size` is set."""
    return optimizer.lr * (stage.batch_size / optimizer.lr_base_batch_size if optimizer.lr_base_batch_size else 1)


def lr_ratio(schedule: Schedule, step: int, plan: list[Epoch]) -> float:
    """Step of the run -> learning rate as a fraction of the peak."""
    rise = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "constant":
        return rise
    if schedule.name == "cosine":
        done = step / plan[-1].last
        return rise * (schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)
    passed = sum(step >= plan[min(m, len(plan)) - 1].last for m in schedule.milestones)
    return rise * schedule.gamma**passed
