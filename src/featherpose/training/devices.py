"""Device of a run, number of data loading workers, and the memory allocator settings for training on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from featherpose.errors import DeviceError
from featherpose.machine import DEVICES, available_threads

# Constants of glibc's malloc.h; -1 means no limit.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
TOP_PAD = 64 << 20


def open_device(name: str) -> torch.device:
    """Name "auto", "cpu" or "cuda" -> device, with several GPUs that of this process; DeviceError if not available."""
    # torch counts the cores of the host, not those that a container may use.
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_threads())
    if name not in DEVICES:
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
    """Device -> number of data loading workers: half of the cores on a CPU (at most 8), all but two on a GPU (16)."""
    cores = available_threads()
    workers = min(8, cores // 2) if device.type == "cpu" else min(16, cores - 2)
    return max(1, workers)


def _keep_freed_memory() -> None:
    """Keep freed memory for the next step: glibc returns large blocks to the system and gets them back page by page.

    docs/log/2026-11-28-memory.md measures the cost. Other C libraries are left unchanged.
    """
    if sys.platform != "linux":  # CDLL(None) fails on Windows
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap, too,
        mallopt(M_TRIM_THRESHOLD, -1)  # which never shrinks
        mallopt(M_TOP_PAD, TOP_PAD)  # and grows in large steps
