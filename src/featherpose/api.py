"""Every command as a Python function, with the names and options of the command line.

Heavy libraries are imported inside the functions: inference needs no torch, and training needs no onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError, MissingExtra, ModelError, did_you_mean
from featherpose.poses import Poses

if TYPE_CHECKING:
    from featherpose.evaluation.coco import CocoScores
    from featherpose.evaluation.mpii import MpiiScores
    from featherpose.evaluation.result import Evaluation
    from featherpose.manifest import Manifest
    from featherpose.recipes.recipe import Recipe
    from featherpose.runtime.estimator import Estimator
    from featherpose.runtime.predict import Report
    from featherpose.training.benchmark import TrainingSpeed
    from featherpose.training.loop import Outcome
    from featherpose.zoo import Entry
    from featherpose.zoo.models import Model

Source = str | os.PathLike[str] | bytes | NDArray[np.uint8]


def estimate(
    image: Source,
    *,
    boxes: ArrayLike | None = None,
    whole_image: bool = False,
    model: str | os.PathLike[str] = "default",
    device: str = "auto",
) -> Poses:
    """Image (path, bytes, or RGB uint8 (H, W, 3)) and person boxes (N, 4) xyxy in its pixels -> Poses in its pixels.

    With `whole_image` the image shows one person and needs no boxes. The opened model is cached for later calls.
    InputError unless exactly one of `boxes` and `whole_image` is given.
    """
    from featherpose import images

    if (boxes is None) != whole_image:
        raise InputError("Give the person boxes: either boxes=[[left, top, right, bottom], ...] or whole_image=True.")
    pixels = image if isinstance(image, np.ndarray) else images.read(image)
    return open_estimator(model, device)(pixels, boxes)


def open_estimator(model: str | os.PathLike[str] = "default", device: str = "auto", **options: Any) -> Estimator:
    """Shipped name or path of an .onnx file -> Estimator, cached until the file changes."""
    from featherpose import weights

    path = weights.find(model).resolve()
    return _open_estimator(path, path.stat().st_mtime_ns, device, tuple(sorted(options.items())))


@lru_cache(maxsize=4)
def _open_estimator(path: Path, modified_ns: int, device: str, options: tuple[tuple[str, Any], ...]) -> Estimator:
    """Cached by modification time, so that a new export replaces the old one."""
    from featherpose.runtime.estimator import Estimator

    return Estimator.open(path, device, **dict(options))


def list_models() -> list[Model]:
    """The shipped models with accuracy, latency and file size, the most accurate first.

    Read from the models' cards: needs no torch.
    """
    import json

    from featherpose import weights
    from featherpose.zoo.models import read_latency, read_model

    aliases = {name: alias for alias, name in weights.ALIASES.items()}
    latency = read_latency()
    cards = [json.loads(weights.find(name, ".json").read_text(encoding="utf-8")) for name in weights.shipped()]
    found = [read_model(card, aliases.get(card["name"]), latency) for card in cards]
    return sorted(found, key=lambda model: -model.ap)


def list_networks(word: str = "") -> list[Entry]:
    """The network architectures, or those with `word` in their name or paper: counts, latency, published scores.

    Read from a table, without torch. ModelError if no network matches.
    """
    from featherpose import weights, zoo

    entries = zoo.read({name.partition("-")[0] for name in weights.shipped()})
    found = zoo.find(word, entries)
    if not found:
        near = did_you_mean(word, [entry.name for entry in entries])
        raise ModelError(f"No network has {word!r} in its name or paper.{near}")
    return found


def predict(sources: Iterable[str | os.PathLike[str]], **arguments: Any) -> Report:
    """Image files and folders -> poses by image; writes images with drawn skeletons and poses.json.

    `arguments`: the options of `runtime.predict.predict`: boxes or whole_image, model, out, ...
    """
    from featherpose.runtime import predict

    return predict.predict(sources, **arguments)


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    format: str = "coco",
    boxes: str | os.PathLike[str] = "gt",
    flip_test: bool = False,
    blur_kernel: int = 0,
    refine: bool = False,
    nms: str | None = None,
    jitter: float = 0.0,
    padding: float | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation[CocoScores] | Evaluation[MpiiScores]:
    """Shipped name or .onnx file, and a labeled data set -> scores and results: COCO AP and AR, or MPII PCKh.

    Args:
        format: "coco" or "mpii".
        boxes: "gt" for ground-truth boxes, or a file of detected boxes (COCO only).
        flip_test: average the heatmaps with those of the flipped crop.
        blur_kernel: width of the Gaussian filter applied to heatmaps, in heatmap cells; 0: none.
        refine: run a second pass on a crop around the keypoints found.
        nms: method that suppresses duplicates of detected boxes: oks, soft, pose or none (COCO only; None: oks).
        jitter: shift the sides of ground-truth boxes at random by this fraction of the box (COCO only).
        padding: size of the crop relative to the box; None: the model's.
        device: "auto", "cpu" or "cuda".
        progress: called with the number of images done and of all images.

    Raises:
        InputError: an unknown format, or options that the format does not have.
    """
    from featherpose.data.coco import read_coco
    from featherpose.data.mpii import read_mpii
    from featherpose.evaluation.evaluate import evaluate as evaluate_coco
    from featherpose.evaluation.mpii import evaluate_mpii

    if format not in ("coco", "mpii"):
        raise InputError(f"Format {format!r} is not known; wanted coco or mpii.")
    if format == "mpii" and (boxes != "gt" or nms is not None or jitter):
        raise InputError("MPII is evaluated at the labeled center and scale: leave out boxes, nms and jitter.")
    estimator = open_estimator(
        model, device, flip_test=flip_test, blur_kernel=blur_kernel, refine=refine, padding=padding
    )
    if format == "mpii":
        return evaluate_mpii(read_mpii(data), estimator, estimator.session.manifest.skeleton, progress)
    return evaluate_coco(read_coco(data), estimator, boxes=boxes, progress=progress, nms=nms, jitter=jitter)


def train(
    recipe: Recipe | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: Iterable[str] = (),
    resume: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    compiled: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Recipe (object, name or YAML file) and folder of the run -> Outcome.

    Weights, training state and the run card are written to the folder.

    Args:
        settings: "key=value" overrides of recipe fields, for a recipe given by name or file.
        resume: continue from the training state in `out`.
        max_minutes: stop after the current step once this many minutes have passed.
        device: "auto", "cpu" or "cuda".
        workers: data loading processes; None: from the core count.
        compiled: compile the network with torch.compile.
        quiet: print nothing.
    """
    with _extra("Training", "train"):
        from featherpose.recipes.recipe import Recipe
        from featherpose.training import loop
    chosen = recipe if isinstance(recipe, Recipe) else open_recipe(recipe, settings)
    return loop.train(
        chosen,
        Path(out),
        resume=resume,
        max_minutes=max_minutes,
        device=device,
        workers=workers,
        compiled=compiled,
        quiet=quiet,
    )


def benchmark_train(network: str, **arguments: Any) -> TrainingSpeed:
    """Name of a network -> its training throughput on this machine.

    `arguments`: the options of `training.benchmark.training_speed`: input_size, batch_size, ...
    """
    with _extra("Training", "train"):
        from featherpose.training.benchmark import training_speed
    return training_speed(network, **arguments)


def open_recipe(
    name: str | os.PathLike[str],
    settings: Iterable[str] = (),
    *,
    data: str | os.PathLike[str] | None = None,
    pretrained: str | os.PathLike[str] | None = None,
) -> Recipe:
    """Name or YAML file and "key=value" overrides -> Recipe.

    `data` is a folder of shards or a COCO keypoints file that replaces the recipe's data and skeleton. `pretrained`
    gives the weights to initialize from, a file or a shipped name.
    """
    from featherpose.recipes.recipe import load, override, with_data
    from featherpose.recipes.shipped import get_recipe

    is_file = Path(name).suffix in (".yaml", ".yml")
    recipe = load(Path(name)) if is_file else get_recipe(os.fspath(name))
    if data is not None:
        recipe = with_data(recipe, os.fspath(data))
    if pretrained is not None:
        recipe = recipe.model_copy(update={"pretrained": os.fspath(pretrained)})
    return override(recipe, settings)


def recipe_yaml(recipe: Recipe) -> str:
    """Recipe -> all of its fields as YAML."""
    from featherpose.recipes.recipe import to_yaml

    return to_yaml(recipe)


def list_recipes() -> dict[str, Recipe]:
    """The shipped recipes, by name."""
    from featherpose.recipes.shipped import RECIPES

    return dict(RECIPES)


def check_recipe(recipe: Recipe) -> int:
    """Recipe -> number of parameters of its network; raises what `train` would raise before the first step."""
    with _extra("Training", "train"):
        from featherpose.training.check import check
    return check(recipe)


def export(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    crops: str | os.PathLike[str] | None = None,
    **given: Any,
) -> tuple[Path, Manifest]:
    """Weights file -> path of the exported .onnx file, next to the weights unless `out` is given, and its manifest.

    The file is written only if the parity check (torch against onnxruntime) passes. `crops`: folder of images or shards
    to include in the check. `given`: network, options, skeleton and input_size, for weights that do not record them.
    """
    with _extra("Exporting", "export"):
        from featherpose.exporting import export_weights
    paths = [None if path is None else Path(path) for path in (out, crops)]
    return export_weights(Path(weights), paths[0], crops=paths[1], **given)


@contextmanager
def _extra(what: str, extra: str) -> Generator[None, None, None]:
    """Raise MissingExtra, which names the extra to install, in place of ModuleNotFoundError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("featherpose"):
            raise
        raise MissingExtra(what, extra) from None
