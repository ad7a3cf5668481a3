"""The scripts of `tools/` as modules, and a run's state without a run."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore = [] if find_spec("torch") else ["test_gpu_rehearsal.py", "test_make_table.py"]

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.append(str(TOOLS))  # they import each other as scripts do


@pytest.fixture
def state() -> Callable[[int], bytes]:
    """A step -> the content of a state.safetensors that stands there, without tensors."""

    def made(step: int) -> bytes:
        header = json.dumps({"__metadata__": {"facts": json.dumps({"step": step})}}).encode()
        return len(header).to_bytes(8, "little") + header

    return made
