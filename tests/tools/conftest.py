"""Make the scripts of `tools/` importable."""

import sys
from importlib.util import find_spec
from pathlib import Path

collect_ignore = [] if find_spec("torch") else ["test_make_table.py"]

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.append(str(TOOLS))
