"""Recipes from YAML files, plain dicts and "key=value" settings, with errors that name the key and the nearest one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from featherpose.errors import RecipeError, did_you_mean
from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.pose import Distill, PoseData, PoseRecipe
from featherpose.recipes.recipe import Recipe, to_dict

TASKS: dict[str, type[PoseRecipe] | type[DetectorRecipe]] = {"pose": PoseRecipe, "detector": DetectorRecipe}
"""Task -> the recipe that describes its runs."""
FREE_KEYS = ("options", "data.sampling_weights")
"""Mappings whose keys are not fields of a recipe: the options of a network, and names of sources."""


def from_dict(values: dict[str, Any], where: str = "the recipe") -> Recipe:
    """Plain dict -> recipe of its `task` (default: pose); RecipeError naming the first invalid key or value."""
    task = values.get("task", "pose")
    if task not in TASKS:
        raise RecipeError(f"{where}: unknown task {task!r}.{did_you_mean(str(task), TASKS)}")
    try:
        recipe = TASKS[task].model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first_error(error, TASKS[task]())}") from None
    if recipe.problem:
        raise RecipeError(f"{where}: {recipe.problem}")
    return recipe


def recorded(values: Mapping[str, Any], data: str | None = None) -> Recipe:
    """The recipe that a weights file or a manifest records, without its digest and its teacher network -> Recipe.

    `data` is the path of its data set, where the recipe does not find it.
    """
    recipe = from_dict({key: value for key, value in values.items() if key != "digest"})
    if isinstance(recipe, PoseRecipe):
        moved = recipe.data if data is None else recipe.data.model_copy(update={"folder": data})
        return recipe.model_copy(update={"distill": Distill(), "data": moved})
    assert isinstance(recipe, DetectorRecipe)
    moved = recipe.data if data is None else recipe.data.model_copy(update={"folders": (data,)})
    return recipe.model_copy(update={"data": moved})


def load(path: Path) -> Recipe:
    """YAML file -> Recipe."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}: a recipe is a YAML mapping; `featherpose recipe show pretrain-feather_pose` prints an example."
        )
    return from_dict(values, str(path))


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Recipe and "key=value" settings, such as `stages.0.epochs=3` -> the recipe with those fields set."""
    values = to_dict(recipe)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: wanted key=value, for example optimizer.lr=0.002.")
        _set(values, key, yaml.safe_load(value), setting)
    return from_dict(values, "--set")


def with_data(recipe: Recipe, folder: str, val_folder: str = "") -> Recipe:
    """Recipe and data set -> the recipe on that data set, with its skeleton, its keypoints and its boxes as annotated.

    `val_folder` is a validation set of its own; without it, the recipe's fraction of the data set is held out.
    """
    if not isinstance(recipe, PoseRecipe):
        raise RecipeError(f"{folder}: --data is for pose recipes; this one trains a {recipe.task}, from data.folders.")
    val_fraction = PoseData().val_fraction if val_folder else recipe.data.val_fraction
    data = PoseData(
        folder=folder, val_folder=val_folder, labels="ground_truth", keypoint_boxes=(), val_fraction=val_fraction
    )
    changed = recipe.model_copy(update={"data": data, "skeleton": "data", "distill": Distill()})
    return from_dict(to_dict(changed), folder)


def _set(values: Any, key: str, value: Any, setting: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        values = values[_checked_key(values, part, setting)]
    is_free = ".".join(parents) in FREE_KEYS
    values[last if is_free else _checked_key(values, last, setting)] = value


def _checked_key(values: Any, part: str, setting: str) -> str | int:
    """Dict or list and one part of a dotted key -> the key or index; RecipeError if there is none."""
    if isinstance(values, list) and part.isdigit() and int(part) < len(values):
        return int(part)
    if isinstance(values, dict) and part in values:
        return part
    known = values if isinstance(values, dict) else [str(i) for i in range(len(values))]
    raise RecipeError(f"--set {setting}: unknown key {part!r}.{did_you_mean(part, known)}")


def _first_error(error: ValidationError, default: Recipe) -> str:
    """The first of pydantic's errors in one line, with the nearest known key for a misspelled one."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is {first['input']!r}: {first['msg'].lower()}."
    known = _known_keys(to_dict(default), first["loc"][:-1])
    return f"unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"


def _known_keys(values: Any, path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        values = values[0 if isinstance(part, int) else part]
    return list(values)
