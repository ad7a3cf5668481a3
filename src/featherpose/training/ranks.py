"""Distributed training: torchrun starts several processes, each takes its share of every batch.

On a CPU, one single-threaded process per core is about twice as fast as one process with one thread per core, because
the network consists of many small operations:

    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m featherpose train RECIPE
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn


@dataclass(frozen=True)
class Ranks:
    """This process is number `index` of `count`; number 0 saves files and prints."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def average_gradients(self, network: nn.Module, stop: bool) -> bool:
        """Replace the gradients by their mean over all processes -> whether any process requests a stop."""
        if self.count == 1:
            return stop
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        stop_flag = torch.full((1,), float(stop), device=gradients[0].device)
        # One exchange for everything: hundreds of small ones would wait longer than they transfer. The flag travels
        # along, so that all processes stop after the same step.
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [stop_flag])
        distributed.all_reduce(flat)
        lengths = [gradient.numel() for gradient in gradients]
        *means, stop_flags = (flat / self.count).split([*lengths, 1])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return bool(stop_flags.item() > 0)

    def broadcast_from_first(self, network: nn.Module) -> None:
        """Copy all parameters and buffers from the first process: running statistics would differ otherwise."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, 0)

    def gather(self, local: NDArray[Any]) -> NDArray[Any]:
        """Rows index, index + count, ... of an array, from each process -> the whole array, in every process."""
        if self.count == 1:
            return local
        # As objects, because the last processes may have a row less, and tensors would have to be of equal length.
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, local)
        num_rows = sum(len(part) for part in parts)
        whole = np.empty((num_rows, *local.shape[1:]), local.dtype)
        for index, part in enumerate(parts):
            whole[index :: self.count] = part
        return whole


SINGLE_PROCESS = Ranks()


def init_ranks(device: torch.device) -> Ranks:
    """Join the processes that torchrun started; a single process otherwise."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return SINGLE_PROCESS
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend)
    return Ranks(distributed.get_rank(), count)
