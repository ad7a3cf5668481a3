"""Where a run computes, and how many processes prepare its batches."""

from __future__ import annotations

import os

import torch

from featherpose.errors import DeviceError
from featherpose.runtime import threads


def open_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" -> device, of several GPUs the one of this process; DeviceError where none is there."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads.available())
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"Unknown device {name!r}; wanted auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device cuda: torch {torch.__version__} sees no CUDA GPU; use --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def pick_workers(device: torch.device) -> int:
    """Processes that prepare batches: on a CPU half of the cores, at most eight; a GPU leaves all but two of them."""
    cores = threads.available()
    return max(1, min(8, cores // 2) if device.type == "cpu" else min(16, cores - 2))
