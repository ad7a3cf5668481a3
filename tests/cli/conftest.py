"""Verbs that need torch cannot be collected without it."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_benchmark_verb.py", "test_recipe_verb.py"]
