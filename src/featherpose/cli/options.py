"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from featherpose.data.names import DATASET_NAMES
from featherpose.errors import InputError
from featherpose.machine import DEVICES

if TYPE_CHECKING:
    from featherpose.size import Size

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def device(purpose: str) -> Decorator:
    """`--device` for a purpose such as "Training"."""
    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        show_default=True,
        help=f"{purpose} device; auto: cuda if it works, else cpu.",
    )


MODEL = click.option(
    "--model",
    default="default",
    show_default=True,
    help="Shipped model (default, small, accurate or a full name), or an .onnx file.",
)
DETECTOR = click.option(
    "--detector",
    default="default",
    show_default=True,
    metavar="NAME|FILE|none",
    help="Person detector: a shipped one, an .onnx file, or none.",
)
CONF = click.option(
    "--conf",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    help="Lowest score of a detected box.  [default: the value in the detector's file, at which 90 % of the boxes are "
    "right on its validation set]",
)
MAX_PEOPLE = click.option(
    "--max-people",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the N best boxes of each image.  [default: all]",
)
IDS = click.option(
    "--ids",
    metavar="FILE",
    help="Text file with the ids or names of the images to use, one a line.  [default: all images]",
)
FORMAT = click.option(
    "--format",
    "data_format",
    type=click.Choice(["auto", *DATASET_NAMES]),
    default="auto",
    show_default=True,
    help="What the data set is; auto: recognized by its files.",
)
CATEGORY = click.option(
    "--category",
    metavar="NAME|ID",
    help="Category of the people, where a file has several that may be it.",
)
STRICT = click.option(
    "--strict",
    is_flag=True,
    help="Refuse labels and boxes that look wrong (in other units, beyond their image) instead of warning.",
)
FLIP_TEST = click.option(
    "--flip-test",
    is_flag=True,
    help="Average the heatmaps with those of the flipped crop: a little more accurate, half the throughput.",
)
REFINE = click.option(
    "--refine",
    is_flag=True,
    help="Run a second pass on a crop around the keypoints found: only for inaccurate boxes, half the throughput.",
)
WORKERS = click.option(
    "--workers", type=click.IntRange(min=0), help="Data loading processes.  [default: from the core count]"
)
COMPILE = click.option("--compile", "compiled", is_flag=True, help="Compile the network with torch.compile.")
SETTINGS = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe field, such as optimizer.lr=0.002; can be repeated.",
)


def parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> Size | None:
    """ "256x192" -> Size(height=256, width=192); also YAML, "{height: 192, width: 256}"."""
    if value is None:
        return None
    import yaml

    from featherpose.size import Size

    try:
        return Size.of(yaml.safe_load(value))
    except InputError as error:
        raise InputError(f"--input-size: {error}") from None


def parse_score(ctx: click.Context, param: click.Parameter, value: str | None) -> float | str | None:
    """ "0.4" -> 0.4; "validation" stays as it is."""
    if value is None or value == "validation":
        return value
    try:
        return float(value)
    except ValueError:
        raise InputError(f"--conf {value}: wanted a score from 0 to 1, or validation.") from None


def parse_options(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """("width=32", "attention=se") -> {"width": 32, "attention": "se"}."""
    import yaml

    for value in values:
        if "=" not in value:
            raise InputError(f"--option {value}: wanted KEY=VALUE, for example --option width=32.")
    return {key: yaml.safe_load(text) for key, _, text in (value.partition("=") for value in values)}


NETWORK_OPTIONS = click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=parse_options,
    help="Network option, such as width=32; can be repeated.",
)
