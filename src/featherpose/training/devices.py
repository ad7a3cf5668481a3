"""Where a run computes, how many processes prepare its batches, and that a CPU keeps the memory of a step."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from featherpose.errors import DeviceError
from featherpose.machine import available_threads

# malloc.h of glibc; a limit of -1 is none.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 64 << 20


def open_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" -> device, of several GPUs the one of this process; DeviceError where none is there."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_threads())
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"Unknown device {name!r}; wanted auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device cuda: torch {torch.__version__} sees no CUDA GPU; use --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        _keep_freed_memory()
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def pick_workers(device: torch.device) -> int:
    """Processes that prepare batches: on a CPU half of the cores, at most eight; a GPU leaves all but two of them."""
    cores = available_threads()
    return max(1, min(8, cores // 2) if device.type == "cpu" else min(16, cores - 2))


def _keep_freed_memory() -> None:
    """The next step needs what this one frees. glibc gives large pieces back, and each comes again page by page.

    docs/log/2026-11-28-memory.md has what that costs. Other C libraries stay as they are.
    """
    if sys.platform != "linux":  # Windows has no library None
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD)):
            mallopt(parameter, value)
