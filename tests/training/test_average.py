"""Mean of weights files: tensors, norms, metadata, and what cannot be averaged."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from click.testing import CliRunner
from safetensors.torch import load_file

from featherpose import api
from featherpose.cli import featherpose
from featherpose.errors import FeatherposeError, InputError, ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import read_facts, read_metadata, save_weights
from featherpose.networks.preprocess import Normalize
from featherpose.recipes.reading import from_dict
from featherpose.recipes.recipe import Recipe
from featherpose.recipes.schedule import epochs
from featherpose.training import card
from featherpose.training.average import average_weights, estimate_norms
from featherpose.training.tasks import open_task
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {**TINY, "network": "inverted_pose", "options": {"width": 0.5}}


def save(recipe: Recipe, path: Path, seed: int, **changes: Any) -> Path:
    """Weights file of an untrained network with the metadata of a run; `changes` replace facts."""
    task = open_task(recipe, CPU)
    torch.manual_seed(seed)
    network = task.create_network()
    for tensor in network.state_dict().values():
        tensor.add_(torch.rand(tensor.shape).to(tensor.dtype))
    metadata = card.metadata(task, epochs(recipe, task.steps)[-1], {"pck": 50.0 + seed, "step": 8})
    save_weights(network, path, metadata | {key: json.dumps(value) for key, value in changes.items()})
    return path


@pytest.fixture
def recipe(synthetic_shards: Path) -> Recipe:
    return from_dict({**SMALL, "data": {"labels": "ground_truth", "folder": str(synthetic_shards)}})


@pytest.fixture
def pair(recipe: Recipe, tmp_path: Path) -> list[Path]:
    other = {"samples": {"lsp": 3}, "terms": ["ask them"], "teacher": "a teacher"}
    return [
        save(recipe, tmp_path / "a.safetensors", 0),
        save(recipe, tmp_path / "b.safetensors", 1, training=other),
    ]


def test_mean_of_weights_and_norms(pair: list[Path], tmp_path: Path) -> None:
    found = average_weights(pair, tmp_path / "mean.safetensors", use_data=False)
    assert (found.batches, found.results) == (0, {})
    one, other, mean = (load_file(path) for path in (*pair, found.path))
    assert one.keys() == mean.keys()
    for name, tensor in mean.items():
        expected = (one[name] + other[name]) / 2 if tensor.is_floating_point() else one[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=0)


def test_metadata_names_files_and_joins_terms(pair: list[Path], tmp_path: Path) -> None:
    path = average_weights(pair, tmp_path / "mean.safetensors", use_data=False).path
    facts = read_facts(path)
    first = read_facts(pair[0])
    assert {key: facts[key] for key in ("network", "options", "skeleton", "codec", "recipe")} == {
        key: first[key] for key in ("network", "options", "skeleton", "codec", "recipe")
    }
    training = facts["training"]
    assert training["samples"] == {"coco": first["training"]["samples"]["coco"], "lsp": 3}
    assert training["terms"] == sorted([*first["training"]["terms"], "ask them"])
    assert training["teacher"] == "a teacher"
    assert [(one["weights"], one["results"]["pck"]) for one in training["averaged"]] == [
        ("a.safetensors", 50.0),
        ("b.safetensors", 51.0),
    ]
    assert training["norms"] == "mean of those of the files"
    assert facts.get("results") == {}, "nothing was measured"


def test_norms_are_the_mean_over_batches(
    pair: list[Path], recipe: Recipe, synthetic_shards: Path, tmp_path: Path
) -> None:
    found = average_weights(
        pair, tmp_path / "mean.safetensors", data=str(synthetic_shards), batches=3, device="cpu", workers=0
    )
    assert found.batches == 3
    assert found.results["pck"] >= 0
    assert read_facts(found.path)["results"] == found.results
    mean = load_file(found.path)

    network = create_network("inverted_pose", 17, width=0.5)
    network.load_state_dict(mean)
    task = open_task(recipe, CPU)
    plan = epochs(recipe, task.steps)
    data = task.prepare(plan[0].stage)
    inputs: list[torch.Tensor] = []
    name, norm = next((n, part) for n, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    network.eval()
    for images, *_ in islice(data.batches(plan, 0, workers=0), 3):
        network(Normalize()(images))
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs])
    variances = torch.stack([x.var(dim=(0, 2, 3)) for x in inputs])
    torch.testing.assert_close(mean[f"{name}.running_mean"], means.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean[f"{name}.running_var"], variances.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_norms_of_frozen_stages_stay(recipe: Recipe) -> None:
    network = create_network("inverted_pose", 17, width=0.5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    frozen = recipe.model_copy(update={"frozen_stages": 2, "pretrained": "x.safetensors"})
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    assert estimate_norms(network, frozen, [(images,)], CPU) == 1
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    norms = {name for name in before if "running" in name or "tracked" in name}
    assert changed == {n for n in norms if not n.startswith(("backbone.stages.0.", "backbone.stages.1."))}


def test_detectors_are_averaged_too(synthetic_scenes: Path, tmp_path: Path) -> None:
    values = {"task": "detector", "data": {"folders": [str(synthetic_scenes)]}, "options": {"neck_channels": 16}}
    recipe = from_dict({**values, "stages": [{"long_side": 64, "epochs": 1, "batch_size": 4}]})
    pair = [save(recipe, tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    out = tmp_path / "mean.safetensors"
    found = average_weights(pair, out, data=str(synthetic_scenes), batches=1, device="cpu", workers=0)
    assert "box_ap" in found.results


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"width": 1.0}}, r"b\.safetensors: options is .*1\.0.*, in .*a\.safetensors it is .*0\.5.*; only"),
        ({"network": "rep_pose"}, "network is rep_pose, in"),
        ({"input_size": {"height": 96, "width": 96}}, "input_size is"),
    ],
    ids=["options", "network", "input"],
)
def test_different_models_are_refused(changes: dict[str, Any], message: str, recipe: Recipe, tmp_path: Path) -> None:
    one = save(recipe, tmp_path / "a.safetensors", 0)
    other = save(recipe, tmp_path / "b.safetensors", 1, **changes)
    with pytest.raises(ModelError, match=message):
        average_weights([one, other], tmp_path / "mean.safetensors", use_data=False)
    assert not (tmp_path / "mean.safetensors").exists()


def test_other_keypoints_are_refused(pair: list[Path], tmp_path: Path) -> None:
    metadata = read_metadata(pair[1])
    skeleton = json.loads(metadata["skeleton"])
    skeleton["keypoint_names"][0] = "beak"
    network = create_network("inverted_pose", 17, width=0.5)
    save_weights(network, pair[1], metadata | {"skeleton": json.dumps(skeleton)})
    with pytest.raises(ModelError, match=r"skeleton is .*beak"):
        average_weights(pair, tmp_path / "mean.safetensors", use_data=False)


def test_files_that_do_not_fit_are_refused(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    foreign = tmp_path / "foreign.safetensors"
    save_weights(torch.nn.Linear(1, 1), foreign, {"format": "pt"})
    damaged = tmp_path / "damaged.safetensors"
    save_weights(torch.nn.Linear(1, 1), damaged, read_metadata(pair[0]))
    refused: list[tuple[list[Any], Path, type[FeatherposeError], str]] = [
        ([], out, InputError, "0 weights files; wanted two or more"),
        (pair[:1], out, InputError, "1 weights files; wanted two or more"),
        (pair, pair[1], InputError, "is one of the files to average"),
        ([pair[0], foreign], out, ModelError, "foreign.safetensors does not name its network"),
        ([pair[0], tmp_path / "none.safetensors"], out, ModelError, "no such model file"),
        ([pair[0], damaged], out, ModelError, "damaged.safetensors do not fit this network"),
    ]
    for given, place, error, message in refused:
        with pytest.raises(error, match=message):
            average_weights(given, place, use_data=False)
    with pytest.raises(ModelError, match=r"There is no folder drawn.* --data, or keep .* with --no-data"):
        average_weights(pair, out, device="cpu", workers=0)


def test_command_prints_result_as_json(pair: list[Path], tmp_path: Path) -> None:
    words = ["average", *map(str, pair), "--out", str(tmp_path / "mean.safetensors"), "--no-data"]
    done = CliRunner().invoke(featherpose, [*words, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["sources"] == [str(path) for path in pair]
    done = CliRunner().invoke(featherpose, words, catch_exceptions=False)
    assert done.stdout.endswith("mean of 2 files, norms averaged, not estimated anew.\n")
    assert CliRunner().invoke(featherpose, [*words, "--data", "x"]).exit_code == 2
    assert api.average(pair, tmp_path / "again.safetensors", use_data=False).batches == 0
