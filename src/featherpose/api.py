"""Every verb as a Python function, with the command line's names and options.

Heavy libraries are imported inside the functions: whoever estimates poses needs no torch, whoever trains no engine.
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
    """Picture (path, bytes, or RGB uint8 (H, W, 3)) and people's boxes (N, 4) xyxy -> Poses in its pixels.

    `whole_image` says that the picture shows one person and needs no boxes. The opened model is kept for the next call.
    """
    from featherpose import images

    if (boxes is None) != whole_image:
        raise InputError("Say where people are: boxes=[[left, top, right, bottom], ...], or whole_image=True.")
    pixels = image if isinstance(image, np.ndarray) else images.read(image)
    return open_estimator(model, device)(pixels, boxes)


def open_estimator(model: str | os.PathLike[str] = "default", device: str = "auto", **options: Any) -> Estimator:
    """Shipped name or path of an .onnx file -> Estimator, the same one while the file is the same."""
    from featherpose import weights

    path = weights.find(model).resolve()
    return _open_estimator(path, path.stat().st_mtime_ns, device, tuple(sorted(options.items())))


@lru_cache(maxsize=4)
def _open_estimator(path: Path, written: int, device: str, options: tuple[tuple[str, Any], ...]) -> Estimator:
    """Kept by the time the file was written, so that a new export is not taken for the old one."""
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

    Read from a table: needs no torch.
    """
    from featherpose import weights, zoo

    entries = zoo.read({name.partition("-")[0] for name in weights.shipped()})
    found = zoo.find(word, entries)
    if not found:
        near = did_you_mean(word, [entry.name for entry in entries])
        raise ModelError(f"No network has {word!r} in its name or paper.{near}")
    return found


def predict(sources: Iterable[str | os.PathLike[str]], **how: Any) -> Report:
    """Picture files and folders -> poses by photo, pictures with skeletons and poses.json.

    `how` as in `runtime.predict.predict`: boxes or whole_image, model, out, ...
    """
    from featherpose.runtime import predict

    return predict.predict(sources, **how)


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
    """Shipped name or .onnx file, and a labelled data set -> scores and results: AP and AR of COCO, PCKh of MPII.

    `format` is "coco" or "mpii". `boxes` is "gt" for the labelled boxes, or a COCO detections file. `flip` averages
    with the mirrored picture, `blur` is the width of the post-Gaussian filter in heatmap cells, `refine` looks again
    round the joints found. `nms` (oks, soft, pose, none) drops duplicates of detected boxes, `jitter` puts the sides of
    labelled ones off by this part; both, and other boxes, are COCO's alone. `padding` is how much wider than its box a
    crop is (None: as the model says).
    """
    from featherpose.data.coco import read_coco
    from featherpose.data.mpii import read_mpii
    from featherpose.evaluation.evaluate import evaluate as evaluate_coco
    from featherpose.evaluation.mpii import evaluate_mpii

    if format not in ("coco", "mpii"):
        raise InputError(f"Format {format!r} is not known; wanted coco or mpii.")
    if format == "mpii" and (boxes != "gt" or nms is not None or jitter):
        raise InputError("Everyone of MPII is posed at the labelled centre and scale: leave out boxes, nms and jitter.")
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
    """Recipe (object, name or YAML file) and a folder -> Outcome; weights, state and card lie in the folder.

    `compiled` runs the network through torch.compile.
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


def benchmark_train(network: str, **how: Any) -> TrainingSpeed:
    """Name of a network -> how fast it trains here; `how` as in `train.benchmark.training_speed`: size, batch, ..."""
    with _extra("Training", "train"):
        from featherpose.training.benchmark import training_speed
    return training_speed(network, **how)


def open_recipe(
    name: str | os.PathLike[str],
    settings: Iterable[str] = (),
    *,
    data: str | os.PathLike[str] | None = None,
    pretrained: str | os.PathLike[str] | None = None,
) -> Recipe:
    """Name or YAML file and "key=value" changes -> Recipe.

    `data` is a folder of shards or a COCO keypoints file to train on in place of the recipe's people, with the
    skeleton that it has; `init` the weights to start from, a file or a shipped name.
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
    """Recipe -> the whole of it as YAML."""
    from featherpose.recipes.recipe import to_yaml

    return to_yaml(recipe)


def list_recipes() -> dict[str, Recipe]:
    """The recipes that come with featherpose, by name."""
    from featherpose.recipes.shipped import RECIPES

    return dict(RECIPES)


def check_recipe(recipe: Recipe) -> int:
    """Recipe -> parameters of its network; what cannot be built or found is refused as `train` would refuse it."""
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
    """Weights file -> path of the proven .onnx file, beside it unless `out` says where, and its manifest.

    `crops`: folder of pictures or shards for the proof. `given`: network, options, skeleton, size, for weights that do
    not say them.
    """
    with _extra("Exporting", "export"):
        from featherpose.exporting import export_weights
    paths = [None if path is None else Path(path) for path in (out, crops)]
    return export_weights(Path(weights), paths[0], crops=paths[1], **given)


@contextmanager
def _extra(what: str, extra: str) -> Generator[None, None, None]:
    """Turns a missing library into the words that install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("featherpose"):
            raise
        raise MissingExtra(what, extra) from None
