"""What this machine offers: device names, and the number of cores that this process, not the host, may use."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda")
"""Names of devices; auto: cuda if it works, else cpu."""


def available_threads() -> int:
    """Physical cores among the allowed CPUs, or the container's CPU quota, whichever is less; at least 1."""
    return max(1, min(_physical(_allowed()), _floor_quota(cpu_quota())))


def cpu_model(info: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor, as the system calls it."""
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def cpu_quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPU quota, in CPUs, that the control groups (version 1 or 2) set for this process; infinite without a limit.

    Every group up to the root may set a limit; the smallest applies.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2 has one hierarchy for all of them
            quotas += [_quota_v2(folder) for folder in _with_parents(root, group)]
        elif "cpu" in controllers.split(","):
            # Mounted under the names of all its controllers ("cpu,cpuacct"), under "cpu" alone, or both.
            for base in (controllers, "cpu"):
                quotas += [_quota_v1(folder) for folder in _with_parents(root / base, group)]
    return min(quotas)


def _allowed() -> set[int]:
    """Indices of the usable CPUs: those of the affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _physical(cpus: set[int], root: Path = Path("/sys/devices/system/cpu")) -> int:
    """CPU indices -> number of physical cores: hardware threads of one core share its arithmetic units, count once."""
    cores = {_siblings(root / f"cpu{cpu}/topology/thread_siblings_list", str(cpu)) for cpu in cpus}
    return len(cores)


def _siblings(file: Path, default: str) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return default


def _floor_quota(quota: float) -> int:
    # Rounded down: waiting engine threads spin, and a process that exceeds its quota is throttled entirely.
    if math.isinf(quota):
        return 1 << 16
    return int(quota)


def _with_parents(base: Path, group: str) -> list[Path]:
    """The group's folder and its parents. In a container the path may be the host's; then only `base` exists."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        if quota == "max":
            return math.inf
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else math.inf  # -1 means no limit
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
