"""What each field of a recipe means: its docstring, as a comment in YAML and as a row of docs/recipes.md."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import yaml

from featherpose.data.color import ColorAugmentation
from featherpose.recipes.reading import TASKS
from featherpose.recipes.recipe import Recipe, Section, to_dict

WIDTH = 100


@cache
def field_docs(section: type) -> dict[str, str]:
    """Section of a recipe -> the docstring below each of its fields, by name, inherited fields first."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for base in reversed(section.__bases__):
        if base.__module__.startswith("featherpose."):
            docs |= field_docs(base)
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            docs[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return docs


def to_commented_yaml(recipe: Recipe) -> str:
    """Recipe -> YAML with every field below a comment that explains it; `load` reads it back."""
    return "\n".join(_section_lines(recipe, to_dict(recipe))) + "\n"


def to_markdown() -> str:
    """Every field of a recipe with its default and its meaning: per task, one table for each section."""
    return "\n".join(line for task in TASKS for line in _task_tables(task))


def _task_tables(task: str) -> Iterator[str]:
    recipe = TASKS[task]()
    defaults = to_dict(recipe)
    nested = sections(recipe)
    yield _table(f"Recipes with `task: {task}`", field_docs(TASKS[task]), dict.fromkeys(nested, "below"), defaults)
    for name, section in nested.items():
        values = defaults[name][0] if name == "stages" else defaults[name]
        yield _table(f"`{name}` of `task: {task}`", field_docs(type(section)), {}, values)


def sections(recipe: Recipe) -> dict[str, Section | ColorAugmentation]:
    """The fields of a recipe that have fields of their own, by name; of the stages, the first one."""
    parts = {name: getattr(recipe, name) for name in type(recipe).model_fields} | {"stages": recipe.stages[0]}
    return {name: part for name, part in parts.items() if isinstance(part, Section | ColorAugmentation)}


def _table(title: str, docs: dict[str, str], elsewhere: dict[str, str], values: dict[str, Any]) -> str:
    lines = [f"## {title}", "", "| field | default | meaning |", "|---|---|---|"]
    for name in values:
        default = elsewhere.get(name, f"`{_flow(values[name])}`")
        lines.append(f"| `{name}` | {default} | {docs[name]} |")
    return "\n".join(lines) + "\n"


def _section_lines(section: Any, values: dict[str, Any]) -> Iterator[str]:
    """Section and its plain values -> lines of YAML, each field after its comment."""
    docs = field_docs(type(section))
    for name, value in values.items():
        yield from (f"# {line}" for line in textwrap.wrap(docs[name], WIDTH, break_on_hyphens=False))
        part = getattr(section, name)
        if isinstance(part, Section | ColorAugmentation):
            yield f"{name}:"
            yield from _indented(_section_lines(part, value))
        elif name == "stages":
            yield f"{name}:"
            yield "-"
            yield from _indented(_section_lines(part[0], value[0]))
            yield from (f"- {_flow(stage)}" for stage in value[1:])
        else:
            yield f"{name}: {_flow(value)}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _flow(value: Any) -> str:
    """Plain value -> YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("\n...\n").strip()
