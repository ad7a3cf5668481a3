"""What every recipe has: network, stages, optimizer, schedule. A recipe determines the result of a training run.

`recipes.pose` and `recipes.detector` add what their task needs, `recipes.reading` reads recipes from YAML and sets
single fields, `recipes.shipped` holds the built-in ones by name.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from featherpose.data.sample import is_validation
from featherpose.errors import DataError, InputError
from featherpose.size import Size

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


def _val_fraction(value: float) -> float:
    try:
        is_validation("", value)
    except DataError as error:
        raise ValueError(str(error)) from None
    return value


ValFraction = Annotated[float, Field(gt=0, le=0.5), AfterValidator(_val_fraction)]
"""1/n: the images whose name has a hash divisible by n are the validation set."""


class Section(BaseModel, frozen=True):
    """Base of the sections of a recipe: frozen, unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Stage(Section, frozen=True):
    """Part of the run with one input size."""

    epochs: Positive = 1
    """Number of epochs at this input size."""
    batch_size: Positive = 64
    """Samples per optimizer step, summed over all processes."""
    accumulate_grad: Positive = 1
    """Gradient accumulation steps: parts into which each process splits its share of a batch to save memory."""

    @property
    def size(self) -> Size:
        """The network's input (for inputs of several shapes: the largest), which the cost of a step depends on."""
        raise NotImplementedError


class Optimizer(Section, frozen=True):
    """Optimizer and learning rate."""

    name: Literal["adamw", "sgd"] = "adamw"
    """Optimizer: `adamw` or `sgd`."""
    lr: Annotated[float, Field(gt=0)] = 4e-3
    """Peak learning rate."""
    lr_base_batch_size: Annotated[int, Field(ge=0)] = 0
    """Batch size that `lr` refers to: for others, lr scales linearly (Goyal et al. 2017); 0: lr is used unchanged."""
    backbone_lr_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a pretrained backbone as a fraction of that of the other layers."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """Gradient clipping: maximum norm of the gradient over all weights; 0: no clipping."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of convolution and linear weights; biases and normalization layers are excluded."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""


class Schedule(Section, frozen=True):
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


class Validation(Section, frozen=True):
    """Evaluation on the validation set during training."""

    interval: Positive = 1
    """Number of epochs between validations; the last epoch is always validated."""
    select_best: bool = True
    """Export the weights with the best score; false: the last ones, so that the reported score chose nothing."""


class Recipe(Section, frozen=True):
    """A training run: on a CPU, the same recipe, data and versions give the same weights."""

    task: str
    """What the network is trained for: `pose` or `detector`; it decides which fields a recipe has."""
    network: str
    """Name of the network (`featherpose networks` lists them)."""
    options: dict[str, Any] = {}
    """Options of the network, such as `width: 32`."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """Stages of the run in order, each with its own input size."""
    optimizer: Optimizer = Optimizer()
    """Optimizer and learning rate."""
    schedule: Schedule = Schedule()
    """Learning rate schedule over the whole run."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the EMA weights, which are the ones validated and saved; 0: no averaging. The last 1 / (1 - decay) steps
    are averaged, but never more than the last ninth of the run: the decay is at most (1 + step) / (10 + step), 0.991
    at step 1000, so that 0.999 is not reached before step 9000."""
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

    @property
    def problem(self) -> str:
        """Message for an unknown name, or for a field that was changed but has no effect; "" if there is none."""
        return no_effect(self._without_effect())

    def _without_effect(self) -> dict[str, object]:
        """Field -> what it would need to have an effect, where it was changed without that; else a false value.

        Whoever changes a field expects an effect.
        """
        optimizer = self.optimizer
        schedule = self.schedule
        default = Schedule()
        return {
            "optimizer.momentum": optimizer.name != "sgd"
            and optimizer.momentum != Optimizer().momentum
            and "optimizer.name=sgd",
            "schedule.milestones": schedule.name != "multistep" and schedule.milestones and "schedule.name=multistep",
            "schedule.gamma": schedule.name != "multistep"
            and schedule.gamma != default.gamma
            and "schedule.name=multistep",
            "schedule.min_lr_ratio": schedule.name != "cosine"
            and schedule.min_lr_ratio != default.min_lr_ratio
            and "schedule.name=cosine",
        }


def no_effect(without_effect: dict[str, object]) -> str:
    """Fields as `Recipe._without_effect` gives them -> message for the first that has no effect, or ""."""
    found = next(((field, needed) for field, needed in without_effect.items() if needed), None)
    return f"{found[0]} has no effect without {found[1]}; remove it." if found else ""


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Recipe -> plain dict of lists, numbers and strings."""
    return recipe.model_dump(mode="json")


def to_yaml(recipe: Recipe) -> str:
    """Recipe -> YAML with every field, which `recipes.reading.load` reads back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, default_flow_style=None, width=100)
