"""What a network costs: parameters and multiply-accumulates. The one counter of the project."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Network in, number of elements of all its parameters out."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Network and input (width, height) in pixels in, multiply-accumulates for one picture out, as our code runs.

    Counted: convolutions, transposed convolutions (at their input), linear layers, matrix products. Left out:
    norms, activations, pooling, resizing, gates. Nothing is computed: a copy runs without data.
    """
    width, height = size
    weightless = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        weightless(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() // 2  # torch counts a multiply-accumulate as two
