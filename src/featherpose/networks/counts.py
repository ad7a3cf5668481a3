"""Cost of a network: parameters and multiply-accumulates. The only counter of the project."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from featherpose.size import Size


def count_parameters(model: nn.Module) -> int:
    """Network -> number of elements of all its parameters."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, size: Size) -> int:
    """Network and input size in pixels -> multiply-accumulates for one image, as our code runs.

    Counted: convolutions, transposed convolutions (at their input), linear layers, matrix products. Not counted:
    norms, activations, pooling, resizing, gates. Nothing is computed: a copy runs on the meta device.
    """
    # On the meta device tensors have shapes but no data, so that large networks are counted at once.
    meta_copy = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta_copy(torch.empty(1, 3, *size.shape, device="meta"))
    return counter.get_total_flops() // 2  # torch counts a multiply-accumulate as two
