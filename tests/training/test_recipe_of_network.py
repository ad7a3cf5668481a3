"""Every network has a recipe that trains it, and what does not fit it is refused before data are read."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from click.testing import CliRunner

from featherpose.cli import featherpose
from featherpose.errors import DataError, FeatherposeError, ModelError, RecipeError
from featherpose.networks import DETECTORS, NETWORKS
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict, load
from featherpose.recipes.recipe import Recipe
from featherpose.recipes.schedule import epochs
from featherpose.recipes.shipped import RECIPES, find_recipe, get_recipe
from featherpose.training import card
from featherpose.training.tasks import check, open_task
from featherpose.training.tasks.pose import network_options
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch
EVERY = [*NETWORKS, *DETECTORS]


@pytest.mark.parametrize("network", EVERY)
def test_every_network_has_a_recipe(network: str) -> None:
    recipe, note = find_recipe(network)
    assert (recipe.network, recipe.options) == (network, {})
    assert recipe.problem == ""
    assert f"network {network}" in note


def with_folder(recipe: Recipe, folder: Path) -> Recipe:
    place = {"folder": str(folder)} if isinstance(recipe, PoseRecipe) else {"folders": (str(folder),)}
    data: Any = recipe.data  # type: ignore[attr-defined]
    return recipe.model_copy(update={"data": data.model_copy(update=place), "pretrained": "", "frozen_stages": 0})


@pytest.mark.slow
@pytest.mark.parametrize("network", EVERY)
def test_recipe_of_every_network_fits_it(network: str, tmp_path: Path) -> None:
    assert check(with_folder(get_recipe(network), tmp_path)) > 0


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("feather_pose", "pretrain-feather_pose"),
        ("cbam_lite_hrnet_18", "pretrain-cbam_lite_hrnet_18"),
        ("hrnet_w48", "baseline-hrnet_w48-384x288-coco"),
        ("tokenpose_l_d24", "baseline-tokenpose_l_d24-256x256-mpii"),
        ("feather_detect", "pretrain-feather_detect"),
    ],
)
def test_network_takes_its_nearest_recipe(network: str, name: str) -> None:
    assert find_recipe(network) == (RECIPES[name], f"Using the recipe {name} of the network {network}.")


def test_recipe_names_have_no_note() -> None:
    assert find_recipe("pretrain-feather_pose") == (RECIPES["pretrain-feather_pose"], "")
    with pytest.raises(RecipeError, match=r"Unknown recipe 'swin_tt'\. Did you mean 'swin_t'"):
        find_recipe("swin_tt")


def test_commands_say_which_recipe_is_used(tmp_path: Path) -> None:
    shown = CliRunner().invoke(featherpose, ["recipe", "show", "swin_t"], catch_exceptions=False)
    assert "The network swin_t has no recipe: using the settings of baseline-*" in shown.stderr
    (tmp_path / "r.yaml").write_text(shown.stdout)
    assert load(tmp_path / "r.yaml") == get_recipe("swin_t")
    words = ["train", "hrnet_w32", "--set", "data.folder=nowhere", "--out", str(tmp_path / "run")]
    trained = CliRunner().invoke(featherpose, words)
    assert trained.stderr.splitlines() == ["Using the recipe baseline-hrnet_w32-384x288-coco of the network hrnet_w32."]
    assert isinstance(trained.exception, DataError)


def tokenpose(folder: Path | str, *sizes: str, **changes: Any) -> PoseRecipe:
    stages = [{**TINY["stages"][0], "input_size": size} for size in sizes]
    data = {"labels": "ground_truth", "folder": str(folder)}
    found = from_dict({"network": "tokenpose_t", "stages": stages, "data": data, **changes})
    assert isinstance(found, PoseRecipe)
    return found


@pytest.mark.parametrize("options", [{}, {"input_size": "64x64"}], ids=["none", "the same"])
def test_tokenpose_takes_the_size_of_the_stage(options: dict[str, Any], synthetic_shards: Path) -> None:
    recipe = tokenpose(synthetic_shards, "64x64", "64x64", options=options)
    expected = {"input_size": {"height": 64, "width": 64}}
    assert network_options(recipe) == expected
    task = open_task(recipe, torch.device("cpu"))
    assert task.create_network()(torch.zeros(1, 3, 64, 64)).shape == (1, 17, 16, 16)
    metadata = card.metadata(task, epochs(recipe, task.steps)[0], {})
    assert json.loads(metadata["options"]) == expected, "exporting builds the network from them"


@pytest.mark.parametrize(
    ("sizes", "changes", "error", "message"),
    [
        (
            ["64x64"],
            {"options": {"input_size": "256x192"}},
            RecipeError,
            "is 256x192, but the stages have",
        ),
        (["64x64", "96x96"], {}, RecipeError, "built for one input size, but the stages have 64x64 and 96x96"),
        (["64x64"], {"network": "tokenpose_x"}, ModelError, "Did you mean 'tokenpose_t'"),
        (["64x64"], {"options": {"inputsize": "64x64"}}, ModelError, "Did you mean 'input_size'"),
    ],
    ids=["other size", "two sizes", "network", "option"],
)
def test_misfit_is_refused_before_data_are_read(
    sizes: list[str], changes: dict[str, Any], error: type[FeatherposeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_task(tokenpose("nowhere", *sizes, **changes), torch.device("cpu"))
