"""Tests of commands that need torch are not collected without it."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_benchmark_command.py", "test_recipe_command.py"]
