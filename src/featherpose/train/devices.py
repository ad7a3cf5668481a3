"""Where a run computes, and how many processes prepare its batches."""

from __future__ import annotations

import os

import torch

from featherpose.errors import DeviceError
from featherpose.runtime import threads


def open_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" -> device; DeviceError when CUDA was asked for and is not there."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads.available())
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"Unknown device {name!r}; wanted auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device cuda: torch {torch.__version__} sees no CUDA GPU; use --device cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def pick_workers() -> int:
    """One process that prepares batches on two cores; half of the cores, at most eight, on larger machines."""
    return max(1, min(8, threads.available() // 2))
