"""Recipes: everything that determines the result of a training run, in one frozen, validated object.

`shipped.RECIPES` holds the built-in recipes by name; a YAML file with the same fields is a recipe too. `override` sets
single fields from "key=value", with dotted keys for nested fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from featherpose.codecs import CODECS
from featherpose.data.augment import Augmentation
from featherpose.data.sample import is_validation
from featherpose.errors import DataError, InputError, RecipeError, did_you_mean
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
"""Names of the losses: recipes are read without torch, which the losses themselves need."""
FREE_KEYS = ("options", "data.sampling_weights")
"""Mappings whose keys are not fields of a recipe: the options of a network, and names of sources."""


def _val_fraction(value: float) -> float:
    try:
        is_validation("", value)
    except DataError as error:
        raise ValueError(str(error)) from None
    return value


class Section(BaseModel):
    """Base of the sections of a recipe: frozen, unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Data(Section):
    """Data set, labels and the validation split."""

    folder: str = "pose-train"
    """Data set: path of a folder of shards or a COCO keypoints file, or name of a folder in FEATHERPOSE_DATA/data."""
    labels: Literal["ground_truth", "ground_truth+pseudo", "pseudo"] = "ground_truth+pseudo"
    """Labels to train on: `ground_truth`; `ground_truth+pseudo`, with gaps filled from teacher-labels.npz; `pseudo`."""
    teacher_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Pseudo-labels with a score below this threshold are not used."""
    sources: tuple[str, ...] = ()
    """Sources whose samples are used, such as coco and mpii; empty: all sources."""
    sampling_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """How often a sample of a source is drawn per epoch, such as `lspet: 0.5`; other sources are drawn once."""
    val_fraction: Annotated[float, Field(gt=0, le=0.5), AfterValidator(_val_fraction)] = 0.05
    """Fraction 1/n of the images held out for validation, selected by image name; 0.2 gives an 80/20 split."""


class Stage(Section):
    """Part of the run with one input size."""

    input_size: InputSize = Size(height=256, width=192)
    """Size of the network input in pixels, height x width."""
    epochs: Positive = 1
    """Number of epochs at this input size."""
    batch_size: Positive = 64
    """Samples per optimizer step, summed over all processes."""
    accumulate_grad: Positive = 1
    """Gradient accumulation steps: parts into which each process splits its share of a batch to save memory."""
    sigma: Annotated[float, Field(gt=0)] = 2.0
    """Standard deviation of the target Gaussian in heatmap cells."""


class Optimizer(Section):
    """Optimizer and learning rate."""

    name: Literal["adamw", "sgd"] = "adamw"
    """Optimizer: `adamw` or `sgd`."""
    lr: Annotated[float, Field(gt=0)] = 4e-3
    """Peak learning rate."""
    lr_base_batch_size: Annotated[int, Field(ge=0)] = 0
    """Batch size that `lr` refers to: for others, lr scales linearly (Goyal et al. 2017); 0: lr is used unchanged."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """Gradient clipping: maximum norm of the gradient over all weights; 0: no clipping."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of convolution and linear weights; biases and normalization layers are excluded."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""


class Schedule(Section):
    """Learning rate schedule over the whole run."""

    name: Literal["cosine", "multistep", "constant"] = "cosine"
    """Schedule: `cosine` (to `min_lr_ratio`), `multistep` (times `gamma` after each milestone) or `constant`."""
    warmup: Annotated[int, Field(ge=0)] = 300
    """Steps of linear warm-up from 0; 0: no warm-up."""
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Final learning rate of `cosine` as a fraction of the peak."""
    milestones: tuple[Positive, ...] = ()
    """Epochs after which `multistep` lowers the learning rate."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor by which `multistep` multiplies the learning rate after each milestone."""


class Validation(Section):
    """Evaluation on the validation set during training."""

    flip_test: bool = False
    """Flip test: average the heatmaps of the image and of its horizontal flip."""
    blur_kernel: Annotated[int, Field(ge=0)] = 0
    """Width of the Gaussian filter on the heatmaps before decoding, in cells, odd; 11 for 64x48 cells, 0: none."""
    interval: Positive = 1
    """Number of epochs between validations; the last epoch is always validated."""


class Distill(Section):
    """Distillation from a teacher."""

    teacher: str = ""
    """Teacher: a .safetensors file of this project, a shipped name, or `labels` (teacher-labels.npz); empty: none."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the teacher; the labels have the weight 1 - `weight`."""


class Recipe(Section):
    """A training run: on a CPU, the same recipe, data and versions give the same weights."""

    network: str = "cbam_lite_hrnet_18"
    """Name of the network (`featherpose networks` lists them)."""
    options: dict[str, Any] = {}
    """Options of the network, such as `width: 32`."""
    skeleton: str = "coco17"
    """Name of a skeleton, path of a YAML file, or `data` for the skeleton of the data set."""
    data: Data = Data()
    """Data set, labels and the validation split."""
    codec: str = "msra"
    """Codec of the target heatmaps and of decoding: `msra`, `dark` or `udp`."""
    unbiased: bool = True
    """Target heatmaps keep a keypoint's sub-cell position instead of rounding it (msra; other codecs always do)."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)
    """Stages of the run in order, each with its own input size."""
    augmentation: Augmentation = Augmentation()
    """Data augmentation of the training samples."""
    loss: str = "mse"
    """Loss between predicted and target heatmaps: `mse`, `ohkm` or `focal`."""
    distill: Distill = Distill()
    """Distillation from a teacher."""
    optimizer: Optimizer = Optimizer()
    """Optimizer and learning rate."""
    schedule: Schedule = Schedule()
    """Learning rate schedule over the whole run."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the EMA weights, which are the ones validated and saved; 0: no averaging."""
    pretrained: str = ""
    """Pretrained weights: a .safetensors or .pth file, or a shipped name; what does not fit is randomly initialized."""
    frozen_stages: Annotated[int, Field(ge=0)] = 0
    """Number of first backbone stages frozen as in `pretrained`, weights and normalization, for shorter steps."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the network's arithmetic; weights and loss are always float32, and bf16 is meant for GPUs."""
    sync_bn: bool = False
    """Synchronize batch normalization over all processes (GPUs only)."""
    validation: Validation = Validation()
    """Evaluation on the validation set during training."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the weight initialization, the sample order and the augmentation."""

    @property
    def digest(self) -> str:
        """Hash of the whole recipe: twelve hexadecimal digits."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()[:12]


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Recipe -> plain dict of lists, numbers and strings."""
    return recipe.model_dump(mode="json")


def to_yaml(recipe: Recipe) -> str:
    """Recipe -> YAML with every field, which `load` reads back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, default_flow_style=None, width=100)


def from_dict(values: dict[str, Any], where: str = "the recipe") -> Recipe:
    """Plain dict -> Recipe; RecipeError naming the first invalid key or value."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first_error(error, values)}") from None
    problem = _unknown_name_error(recipe) or _no_effect_error(recipe)
    if problem:
        raise RecipeError(f"{where}: {problem}")
    return recipe


def _unknown_name_error(recipe: Recipe) -> str:
    """Message for an unknown codec, loss or skeleton, or ""; `create_network` checks the network and its options."""
    skeletons = [*SKELETONS, "data"]
    choices = {"codec": (recipe.codec, CODECS), "loss": (recipe.loss, LOSSES), "skeleton": (recipe.skeleton, skeletons)}
    for field, (name, known) in choices.items():
        if name not in known and not (field == "skeleton" and name.endswith((".yaml", ".yml"))):
            return f"unknown {field} {name!r}.{did_you_mean(name, known)}"
    return ""


def _no_effect_error(recipe: Recipe) -> str:
    """Message for a field that was changed but has no effect, or "": whoever changed it expects an effect."""
    optimizer, schedule, data = recipe.optimizer, recipe.schedule, recipe.data
    without_effect = {
        "optimizer.momentum": optimizer.name != "sgd"
        and optimizer.momentum != Optimizer().momentum
        and "optimizer.name=sgd",
        "schedule.milestones": schedule.name != "multistep" and schedule.milestones and "schedule.name=multistep",
        "schedule.gamma": schedule.name != "multistep"
        and schedule.gamma != Schedule().gamma
        and "schedule.name=multistep",
        "schedule.min_lr_ratio": schedule.name != "cosine"
        and schedule.min_lr_ratio != Schedule().min_lr_ratio
        and "schedule.name=cosine",
        "unbiased": recipe.codec != "msra" and not recipe.unbiased and "codec=msra",
        "data.teacher_threshold": data.labels == "ground_truth"
        and data.teacher_threshold != Data().teacher_threshold
        and "data.labels=ground_truth+pseudo",
        "distill.teacher": data.labels == "pseudo"
        and recipe.distill.teacher == "labels"
        and "ground truth in data.labels",
        "distill.weight": not recipe.distill.teacher
        and recipe.distill.weight != Distill().weight
        and "distill.teacher",
        "validation.blur_kernel": recipe.validation.blur_kernel
        and CODECS[recipe.codec].blurs
        and "codec=msra (this codec applies its own Gaussian filter)",
        "data.sampling_weights": bool(data.sources)
        and set(data.sampling_weights) - set(data.sources)
        and "the same source in data.sources",
    }
    found = next(((field, user) for field, user in without_effect.items() if user), None)
    return f"{found[0]} has no effect without {found[1]}; remove it." if found else ""


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


def with_data(recipe: Recipe, folder: str) -> Recipe:
    """Recipe and data set -> the recipe on that data set, with its skeleton and its annotations as the only labels."""
    data = Data(folder=folder, labels="ground_truth", val_fraction=recipe.data.val_fraction)
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


def _first_error(error: ValidationError, values: dict[str, Any]) -> str:
    """The first of pydantic's errors in one line, with the nearest known key for a misspelled one."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is {first['input']!r}: {first['msg'].lower()}."
    known = _known_keys(to_dict(Recipe()), first["loc"][:-1])
    return f"unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"


def _known_keys(values: Any, path: tuple[str | int, ...]) -> list[str]:
    for part in path:
        values = values[0 if isinstance(part, int) else part]
    return list(values)
