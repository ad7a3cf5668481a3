"""Devices of a training run."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from featherpose.errors import DeviceError

pytestmark = pytest.mark.torch

PAGE_FAULTS_SCRIPT = """
import resource, numpy
from featherpose.training.devices import open_device

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(64 << 20, numpy.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
open_device("cpu")
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_reused_by_next_step() -> None:
    done = subprocess.run([sys.executable, "-c", PAGE_FAULTS_SCRIPT], check=True, capture_output=True, text=True)
    without, kept = map(int, done.stdout.split())
    assert kept < without / 10


def test_unknown_device_is_refused() -> None:
    from featherpose.training.devices import open_device

    with pytest.raises(DeviceError, match="Unknown device 'gpu'; wanted auto, cpu or cuda"):
        open_device("gpu")
