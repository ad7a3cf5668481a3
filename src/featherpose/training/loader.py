"""Batches from worker processes that draw, augment and encode the samples.

The content of a batch is a function of (seed, epoch, draw) alone, so a run resumes from a step number.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from featherpose.training.ranks import Ranks
from featherpose.training.task import Batch


def load(
    dataset: Dataset[Any], batches: Sequence[Sequence[Any]], workers: int, ranks: Ranks, pin: bool = False
) -> Iterator[Batch]:
    """Dataset and the draw numbers of each batch -> the batches, collated.

    With several processes, each gets its share of every batch. `pin` puts batches into pinned memory for a GPU.
    """
    shares = [list(batch[ranks.index :: ranks.count]) for batch in batches]
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_sampler=shares, num_workers=workers, pin_memory=pin, worker_init_fn=_init_worker
    )
    return iter(loader)


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C, so that the run can finish the current step, and use one thread: the network needs the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
