"""Distributed training equals a single process: gradients, scores, stop requests; and options that need GPUs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from featherpose.errors import RecipeError
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict
from featherpose.recipes.recipe import to_yaml
from featherpose.training import loop
from featherpose.training.ranks import SINGLE_PROCESS
from tests.training import ranks_child
from tests.training.conftest import TINY
from tests.training.fork_server import ForkServer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def recipe(synthetic_shards: Path) -> PoseRecipe:
    data = {"labels": "ground_truth", "folder": str(synthetic_shards), "val_fraction": 0.2}
    return from_dict({**TINY, "data": data, "validation": {"flip_test": True}})


@pytest.fixture(scope="module")
def single_process(recipe: PoseRecipe) -> dict[str, np.ndarray]:
    return ranks_child.gradients_and_scores(recipe, SINGLE_PROCESS)


@pytest.fixture(scope="module")
def two_processes(recipe: PoseRecipe, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "r.yaml").write_text(to_yaml(recipe))
    for child in fork_server.start_ranks(ranks_child.save, str(folder / "r.yaml"), str(folder), folder=folder):
        assert child.wait() == 0, child.log.read_text()
    return [np.load(folder / f"rank{rank}.npz") for rank in range(2)]


def test_averaged_gradients_equal_whole_batch(single_process: dict[str, np.ndarray], two_processes: list[Any]) -> None:
    assert np.abs(single_process["gradients"]).max() > 1e-3
    for rank in two_processes:
        np.testing.assert_allclose(rank["gradients"], single_process["gradients"], rtol=1e-9, atol=1e-12)


def test_all_ranks_get_scores_of_all_samples(single_process: dict[str, np.ndarray], two_processes: list[Any]) -> None:
    assert (single_process["scores"] > 0).any()
    for rank in two_processes:
        np.testing.assert_allclose(rank["scores"], single_process["scores"], rtol=1e-5)


def test_stop_request_of_one_rank_stops_all(two_processes: list[Any]) -> None:
    assert all(rank["stop"] for rank in two_processes)


def test_indivisible_batch_size_raises(recipe: PoseRecipe, tmp_path: Path) -> None:
    uneven = recipe.model_copy(update={"stages": (recipe.stages[0].model_copy(update={"accumulate_grad": 3}),)})
    with pytest.raises(RecipeError, match="Batch size 8 is not divisible by 1 processes x 3 accumulation steps"):
        loop.train(uneven, tmp_path / "run", device="cpu", quiet=True)


def test_sync_bn_on_a_cpu_raises(recipe: PoseRecipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="sync_bn: true works on GPUs only"):
        loop.train(recipe.model_copy(update={"sync_bn": True}), tmp_path / "run", device="cpu", quiet=True)
