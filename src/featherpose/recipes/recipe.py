"""Recipes: everything that decides the outcome of a training run, in one frozen, checked object.

`RECIPES` holds ours by name; a YAML file with the same fields is a recipe too. `change` sets single fields from
"key=value", keys with dots for the parts within.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from featherpose.codecs import CODECS
from featherpose.data.augment import Augmentation
from featherpose.errors import InputError, RecipeError, did_you_mean
from featherpose.size import Size
from featherpose.skeleton import SKELETONS

Positive = Annotated[int, Field(gt=0)]


def _size(value: object) -> Size:
    """pydantic turns a ValueError into its own report."""
    try:
        return Size.of(value)
    except InputError as error:
        raise ValueError(str(error)) from None


def _plain_size(size: Size) -> str | dict[str, int]:
    """As `Size.of` reads it back: a text, or two named sides where the input is wider than tall."""
    return str(size) if size.width <= size.height else size.to_dict()


InputSize = Annotated[Size, BeforeValidator(_size), PlainSerializer(_plain_size)]
"""Written and read as "256x192", height x width."""

LOSSES = ("mse", "ohkm", "focal")
"""Names of the losses; a recipe is read without torch, which the losses themselves need."""


class Part(BaseModel):
    """A part of a recipe: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Data(Part):
    """Which people are trained on."""

    folder: str = "pose-train"
    """Folder of shards: a path, or the name of a folder in `data/` of FEATHERPOSE_DATA."""
    labels: Literal["ground_truth", "ground_truth+pseudo", "pseudo"] = "ground_truth+pseudo"
    """"ground_truth": labeled keypoints only; "ground_truth+pseudo": unlabeled ones from the teacher's pseudo-labels
    (teacher-labels.npz); "pseudo": pseudo-labels only."""
    teacher_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The teacher's joints below this score are not used."""
    sources: tuple[str, ...] = ()
    """Only people of these sources (coco, mpii, ...); empty: all."""
    sampling_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """How often a person of a source is seen in an epoch, as `lspet: 0.5`; sources that are not named: once."""
    val_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Fraction 1/n of the images that is kept for validation, chosen by image name; 0.2 is the 80/20 split."""


class Stage(Part):
    """A part of the run at one input size."""

    input_size: InputSize = Size(height=256, width=192)
    """Of the network's input in pixels, height x width."""
    epochs: Positive = 1
    """How often each person is seen."""
    batch_size: Positive = 64
    """People per step, all processes together."""
    accumulate_grad: Positive = 1
    """Parts that a process makes of its share of a batch, one after the other, to save memory."""
    sigma: Annotated[float, Field(gt=0)] = 2.0
    """Deviation of the target Gaussian in heatmap cells."""


class Optimizer(Part):
    """How weights follow gradients."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 4e-3
    """Largest learning rate."""
    lr_base_batch_size: Annotated[int, Field(ge=0)] = 0
    """The batch that `rate` is meant for: another one scales it in proportion (Goyal et al. 2017); 0: it is kept."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """Longest gradient over all weights together; longer ones are shortened; 0: none."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of convolution weights; biases and norms are left alone."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""


class Schedule(Part):
    """How the learning rate changes over the run."""

    name: Literal["cosine", "multistep", "constant"] = "cosine"
    """"cosine": down to `floor` along a half cosine; "steps": times `factor` after each milestone; "flat": constant."""
    warmup: Annotated[int, Field(ge=0)] = 300
    """Steps over which the rate rises from 0."""
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Where the cosine ends, as a part of the largest rate."""
    milestones: tuple[Positive, ...] = ()
    """Epochs after which "steps" goes down."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1


class Validation(Part):
    """How the validation part is judged."""

    flip_test: bool = False
    """Average with the mirrored picture."""
    blur_kernel: Annotated[int, Field(ge=0)] = 0
    """Width of the post-Gaussian filter in heatmap cells, odd (11 at 48x64 cells); 0: none."""
    interval: Positive = 1
    """Epochs from one judgement to the next; the last epoch is always judged."""


class Distill(Part):
    """What else the network learns from."""

    teacher: str = ""
    """A .safetensors file of this project, a shipped name, or "labels": teacher-labels.npz; empty: nothing."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the teacher; the rest is the labels'."""


class Recipe(Part):
    """A training run: the same recipe, data and versions give the same weights on a CPU."""

    network: str = "cbam_lite_hrnet_18"
    options: dict[str, Any] = {}
    """Options of the network, as `width: 32`."""
    skeleton: str = "coco17"
    """A name, a YAML file, or "data": the one that the data have."""
    data: Data = Data()
    codec: str = "msra"
    unbiased: bool = True
    """Targets keep a joint's place between two cells instead of rounding it (msra; the others always do)."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)
    augmentation: Augmentation = Augmentation()
    loss: str = "mse"
    distill: Distill = Distill()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, which are the ones validated and kept; 0: none."""
    pretrained: str = ""
    """Weights to start from: a .safetensors or .pth file, or a shipped name; what does not fit is made anew."""
    frozen_stages: Annotated[int, Field(ge=0)] = 0
    """First stages of the body that stay as `init` has them, weights and norms: shorter steps."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the network's arithmetic; weights and loss are always float32. bf16 is for GPUs."""
    sync_bn: bool = False
    """Batch norms over all processes together (GPUs only)."""
    validation: Validation = Validation()
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def digest(self) -> str:
        """Twelve letters that stand for the whole recipe."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()[:12]


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Recipe -> plain dict of lists, numbers and words."""
    return recipe.model_dump(mode="json")


def to_yaml(recipe: Recipe) -> str:
    """Recipe -> the whole of it as YAML, which `load` reads back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, default_flow_style=None, width=100)


def from_dict(values: dict[str, Any], where: str = "the recipe") -> Recipe:
    """Plain dict -> Recipe; RecipeError naming the first wrong key or value."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first(error, values)}") from None
    complaint = _unknown(recipe) or _useless(recipe)
    if complaint:
        raise RecipeError(f"{where}: {complaint}")
    return recipe


def _unknown(recipe: Recipe) -> str:
    """What a recipe names and nobody knows; networks and their options are left to `create_model`."""
    skeletons = [*SKELETONS, "data"]
    choices = {"codec": (recipe.codec, CODECS), "loss": (recipe.loss, LOSSES), "skeleton": (recipe.skeleton, skeletons)}
    for field, (name, known) in choices.items():
        if name not in known and not (field == "skeleton" and name.endswith((".yaml", ".yml"))):
            return f"unknown {field} {name!r}.{did_you_mean(name, known)}"
    return ""


def _useless(recipe: Recipe) -> str:
    """A field that was changed and decides nothing: the one who changed it expects something."""
    optimizer, schedule, data = recipe.optimizer, recipe.schedule, recipe.data
    idle = {
        "optimizer.momentum": optimizer.name != "sgd" and optimizer.momentum != Optimizer().momentum and "sgd",
        "schedule.milestones": schedule.name != "multistep" and schedule.milestones and "multistep",
        "schedule.gamma": schedule.name != "multistep" and schedule.gamma != Schedule().gamma and "multistep",
        "schedule.min_lr_ratio": schedule.name != "cosine"
        and schedule.min_lr_ratio != Schedule().min_lr_ratio
        and "cosine",
        "unbiased": recipe.codec != "msra" and not recipe.unbiased and "codec: msra",
        "data.teacher_threshold": data.labels == "ground_truth"
        and data.teacher_threshold != Data().teacher_threshold
        and "labels: ground_truth+pseudo",
        "distill.teacher": data.labels == "pseudo" and recipe.distill.teacher == "labels" and "ground-truth labels",
        "distill.weight": not recipe.distill.teacher
        and recipe.distill.weight != Distill().weight
        and "distill.teacher",
        "validation.blur_kernel": recipe.validation.blur_kernel
        and CODECS[recipe.codec].blurs
        and "codec: msra (this one blurs itself)",
        "data.sampling_weights": bool(data.sources)
        and set(data.sampling_weights) - set(data.sources)
        and "a source in data.sources",
    }
    found = next(((field, user) for field, user in idle.items() if user), None)
    return f"{found[0]} has no effect without {found[1]}; leave it out." if found else ""


def load(path: Path) -> Recipe:
    """YAML file -> Recipe."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a YAML mapping; `featherpose recipe show pretrain-cbam` prints one.")
    return from_dict(values, str(path))


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Recipe and "key=value" words, as `stages.0.epochs=3` -> the recipe with those fields set."""
    values = to_dict(recipe)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: wanted key=value, for example optimizer.lr=0.002.")
        _set(values, key, yaml.safe_load(value), setting)
    return from_dict(values, "--set")


def with_data(recipe: Recipe, folder: str) -> Recipe:
    """Recipe -> the same on other people, with the skeleton that they have and the labels that people gave them."""
    data = Data(folder=folder, labels="ground_truth", val_fraction=recipe.data.val_fraction)
    changed = recipe.model_copy(update={"data": data, "skeleton": "data", "distill": Distill()})
    return from_dict(to_dict(changed), folder)


def _set(values: Any, key: str, value: Any, setting: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        values = values[_place(values, part, setting)]
    values[_place(values, last, setting)] = value


def _place(values: Any, part: str, setting: str) -> str | int:
    """Dict or list and one part of a dotted key -> its key or index, checked."""
    if isinstance(values, list) and part.isdigit() and int(part) < len(values):
        return int(part)
    if isinstance(values, dict) and part in values:
        return part
    known = values if isinstance(values, dict) else [str(i) for i in range(len(values))]
    raise RecipeError(f"--set {setting}: there is no {part!r}.{did_you_mean(part, known)}")


def _first(error: ValidationError, values: dict[str, Any]) -> str:
    """The first of pydantic's complaints in one line, with the nearest known key for a misspelt one."""
    complaint = error.errors()[0]
    place = ".".join(str(part) for part in complaint["loc"])
    if complaint["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is {complaint['input']!r}: {complaint['msg'].lower()}."
    known = _keys(to_dict(Recipe()), complaint["loc"][:-1])
    return f"unknown key {place!r}.{did_you_mean(str(complaint['loc'][-1]), known)}"


def _keys(values: Any, path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        values = values[0 if isinstance(part, int) else part]
    return list(values)
