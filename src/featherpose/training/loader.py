"""Batches from worker processes that draw, augment and encode the samples.

The content of a batch is a function of (seed, epoch, draw) alone, so a run resumes from a step number.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from featherpose.recipes.schedule import Epoch
from featherpose.training.ranks import Ranks
from featherpose.training.task import Batch

Draw = TypeVar("Draw")


def load(
    dataset: Dataset[Any], batches: Iterable[Sequence[Any]], workers: int, ranks: Ranks, pin: bool = False
) -> Generator[Batch, None, None]:
    """Dataset and the draws of each batch, of all epochs one after the other -> the batches, collated.

    With several processes, each gets its share of every batch, and never none: of fewer samples than processes some are
    in two shares. `pin` puts batches into pinned memory for a GPU. The
    workers start with the first batch, stay between epochs, and end when the batches do or the generator is closed.
    """
    shares = (_share(batch, ranks) for batch in batches)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=shares,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_init_worker,
        # One of its own: the seeds of the workers, which nothing uses, must not change torch's random numbers.
        generator=torch.Generator(),
    )
    # The generator holds the only reference to the loader's iterator, which ends the workers when it is deleted.
    yield from loader


def remaining(
    epochs: Iterable[Epoch], step: int, draws_of: Callable[[Epoch], Sequence[Sequence[Draw]]]
) -> Iterator[Sequence[Draw]]:
    """Epochs in their order and the draws of the batches of each -> those of all batches from the run's `step` on."""
    for epoch in epochs:
        yield from draws_of(epoch)[max(0, step - epoch.first) :]


def _share(batch: Sequence[Any], ranks: Ranks) -> list[Any]:
    if len(batch) < ranks.count:
        return [batch[ranks.index % len(batch)]]
    return list(batch[ranks.index :: ranks.count])


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C, so that the run can finish the current step, and use one thread: the network needs the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
