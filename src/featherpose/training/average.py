"""Mean of the weights of several runs of one network: one model, often better than each (Wortsman et al. 2022).

Batch norms are estimated anew, because the mean of the statistics of several networks is not that of their mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherpose import files, weights
from featherpose.errors import FeatherposeError, InputError, ModelError
from featherpose.networks import create_detector, create_network
from featherpose.networks.checkpoints import load_weights, read_facts, read_metadata, save_weights
from featherpose.networks.preprocess import Normalize
from featherpose.recipes.reading import recorded
from featherpose.recipes.recipe import Recipe
from featherpose.recipes.schedule import Epoch, epochs, until_end_of_stage
from featherpose.size import Size
from featherpose.skeleton import Skeleton
from featherpose.training.card import terms_of
from featherpose.training.devices import open_device, pick_workers
from featherpose.training.freeze import freeze
from featherpose.training.ranks import SINGLE_PROCESS
from featherpose.training.task import Batch, StageData
from featherpose.training.tasks import open_task

Facts = dict[str, Any]
BATCHES = 50
"""Batches from which the norms are estimated."""
_OF_ITS_RUN = ("version", "recipe", "training", "results")
"""Metadata that may differ between the files; everything else describes the model."""


@dataclass(frozen=True)
class Average:
    """Result of `average_weights`: its file, the files averaged, the batches from which its norms were estimated."""

    path: Path
    sources: tuple[Path, ...]
    batches: int
    """0: the norms are the mean of those of the files."""
    results: dict[str, Any]
    """Scores on the validation set of the data; empty without data."""


def average_weights(
    sources: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    data: str | None = None,
    use_data: bool = True,
    batches: int = BATCHES,
    device: str = "auto",
    workers: int | None = None,
) -> Average:
    """Weights files of one network (paths or shipped names) -> the file `out` with the mean of their weights.

    The norms are estimated on training samples of the first file's recipe, and the result is validated.

    Args:
        data: path of the recipe's data set, where the recipe does not find it.
        use_data: without it, the statistics of the norms are averaged like the weights, and nothing is validated.
        batches: batches from which the norms are estimated; at most those of the recipe.
        device: "auto", "cpu" or "cuda".
        workers: data loading processes; None: from the core count.

    Raises:
        InputError: fewer than two files, or `out` is one of them or cannot be written.
        ModelError: a file without metadata, files of different models, or a recipe whose data cannot be read.
    """
    paths = [weights.find(source, ".safetensors") for source in sources]
    if len(paths) < 2:
        raise InputError(f"{len(paths)} weights files; wanted two or more to average.")
    if out.resolve() in [path.resolve() for path in paths]:
        raise InputError(f"{out} is one of the files to average; choose another --out.")
    files.check_writable(out)
    facts = [_read_facts(path) for path in paths]
    for path, others in zip(paths[1:], facts[1:], strict=True):
        _require_same_model(paths[0], facts[0], path, others)
    network = _create(facts[0])
    network.load_state_dict(_mean(network, paths))
    training = _joined([path.name for path in paths], facts)
    results: dict[str, Any] = {}
    estimated = 0
    if use_data:
        torch_device = open_device(device)
        workers = pick_workers(torch_device) if workers is None else workers
        run = _open_data(paths[0], facts[0], data, torch_device)
        network.to(torch_device)
        estimated = run.estimate_norms(network, batches, workers)
        results = run.validate(network)
        training["terms"] = sorted({*training["terms"], *terms_of(run.sources)})
    training["norms"] = f"estimated from {estimated} batches" if use_data else "mean of those of the files"
    described = {**facts[0], "training": training, "results": results}
    save_weights(network, out, {key: json.dumps(value) for key, value in described.items()})
    return Average(out, tuple(paths), estimated, results)


def _read_facts(path: Path) -> Facts:
    """Weights file -> all of its metadata; ModelError where it does not name its network."""
    if not read_facts(path).keys() >= {"network", "skeleton"}:
        raise ModelError(f"{path} does not name its network; wanted files written by `featherpose train`.")
    return {key: json.loads(text) for key, text in read_metadata(path).items()}


def _require_same_model(path: Path, facts: Facts, other_path: Path, others: Facts) -> None:
    """ModelError naming the first difference between the models of two files, other than what their runs were."""
    for key in sorted((facts.keys() & others.keys()) - {*_OF_ITS_RUN}):
        one = _comparable(key, facts[key])
        other = _comparable(key, others[key])
        if one != other:
            raise ModelError(
                f"{other_path}: {key} is {other}, in {path} it is {one}; only weights of one network with the same "
                "options, keypoints, input and codec can be averaged."
            )


def _comparable(key: str, value: Any) -> Any:
    """Value of a fact -> what must be equal: of a skeleton the names of its keypoints."""
    return value["keypoint_names"] if key == "skeleton" else value


def _create(facts: Facts) -> nn.Module:
    num_keypoints = Skeleton.from_dict(facts["skeleton"]).num_keypoints
    create = create_detector if facts.get("kind") == "detector" else create_network
    return create(facts["network"], num_keypoints, **facts.get("options", {}))


def _mean(network: nn.Module, paths: Sequence[Path]) -> dict[str, Tensor]:
    """Network and its weights files -> the mean of their tensors; counts are those of the first file."""
    tensors: dict[str, list[Tensor]] = {}
    for path in paths:
        load_weights(network, path)
        for name, tensor in network.state_dict().items():
            tensors.setdefault(name, []).append(tensor.clone())
    return {
        name: torch.stack(same).double().mean(dim=0).to(same[0].dtype) if same[0].is_floating_point() else same[0]
        for name, same in tensors.items()
    }


@dataclass(frozen=True)
class _Data:
    """Training and validation set of a recipe, at the input size of a weights file."""

    recipe: Recipe
    sources: Sequence[str]
    stage_data: StageData
    rest: Sequence[Epoch]
    """Epochs whose batches are drawn."""
    device: torch.device

    def estimate_norms(self, network: nn.Module, batches: int, workers: int) -> int:
        """Estimate the norms of the network, in place, on at most that many batches -> the number of batches."""
        pin = self.device.type == "cuda"
        with closing(self.stage_data.batches(self.rest, self.rest[0].first, workers, SINGLE_PROCESS, pin)) as loaded:
            return estimate_norms(network, self.recipe, islice(loaded, batches), self.device)

    def validate(self, network: nn.Module) -> dict[str, Any]:
        """Network -> its validation result."""
        scores = self.stage_data.validate(network, self.device, SINGLE_PROCESS)
        return {"input_size": self.rest[0].stage.size.to_dict(), **scores}


def _open_data(path: Path, facts: Facts, data: str | None, device: torch.device) -> _Data:
    """Weights file with its metadata -> the data of its recipe; ModelError where they cannot be used."""
    try:
        recipe = recorded(facts.get("recipe", {}), data)
        task = open_task(recipe, device)
        plan = epochs(recipe, task.steps)
        epoch = next((epoch for epoch in plan if epoch.stage.size == _input_size(facts)), plan[-1])
        stage_data = task.prepare(epoch.stage)
    except FeatherposeError as error:
        raise ModelError(
            f"{path}: the data of its recipe cannot be used: {error} Give the data set with --data, or keep the mean "
            "of the norms with --no-data."
        ) from error
    return _Data(recipe, task.sources, stage_data, until_end_of_stage(plan, epoch), device)


def _input_size(facts: Facts) -> Size | None:
    """Metadata -> size of the network's input, as `Stage.size` has it."""
    if "long_side" in facts:
        return Size(height=facts["long_side"], width=facts["long_side"])
    return Size.of(facts["input_size"]) if "input_size" in facts else None


@torch.no_grad()
def estimate_norms(network: nn.Module, recipe: Recipe, batches: Iterable[Batch], device: torch.device) -> int:
    """Replace the running statistics of the batch norms by their mean over the batches -> the number of batches.

    Those of frozen stages stay: they are the ones of the pretrained weights. The network ends in eval mode.
    """
    network.eval()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    freeze(network, recipe)
    normalize = Normalize().to(device)
    number = 0
    for number, (images, *_) in enumerate(batches, start=1):
        # Running mean <- (1 - 1/n) x running mean + 1/n x that of the batch: each batch counts alike.
        for norm in norms:
            norm.momentum = 1 / number
        network(normalize(images.to(device)))
    network.eval()
    return number


def _joined(names: Sequence[str], facts: Sequence[Facts]) -> dict[str, Any]:
    """Names and metadata of the files -> how their mean was trained: samples, terms and teachers of all of them."""
    trainings: list[Facts] = [one.get("training", {}) for one in facts]
    samples: dict[str, int] = {}
    for training in trainings:
        for source, count in training.get("samples", {}).items():
            samples[source] = max(count, samples.get(source, 0))
    terms = {term for training in trainings for term in training.get("terms", [])}
    teachers = {training["teacher"]: None for training in trainings if training.get("teacher")}
    return {
        "samples": dict(sorted(samples.items())),
        "terms": sorted(terms),
        "teacher": "; ".join(teachers) or None,
        "averaged": [
            {"weights": name, **{key: one[key] for key in ("recipe", "training", "results") if key in one}}
            for name, one in zip(names, facts, strict=True)
        ],
    }
