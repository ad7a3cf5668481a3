"""Data loading: workers stay between epochs, end with the batches, and work under every start method."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file
from torch.utils.data import Dataset

from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.pose import PoseRecipe, PoseStage
from featherpose.recipes.reading import from_dict
from featherpose.recipes.recipe import to_yaml
from featherpose.recipes.schedule import epochs, full_batches, until_end_of_stage
from featherpose.training.loader import load, remaining
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.tasks.detector import DetectorTask
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch

TWO_STEPS = """
import multiprocessing, sys
from pathlib import Path
from featherpose.recipes.reading import load
from featherpose.training import loop

method, workers, recipe, out = sys.argv[1:]
multiprocessing.set_start_method(method)
for resume in (False, True):  # each stops after one step
    loop.train(
        load(Path(recipe)), Path(out), resume=resume, device="cpu", workers=int(workers), quiet=True, max_minutes=1e-9
    )
    assert multiprocessing.active_children() == []
"""


class Pids(Dataset[Any]):
    """Draw -> the draw and the number of the process that loads it."""

    def __getitem__(self, draw: int) -> Any:
        return torch.tensor([draw, os.getpid()])


@pytest.mark.parametrize("workers", [0, 2])
def test_no_batches_start_no_workers(workers: int) -> None:
    assert list(load(Pids(), [], workers, SINGLE_PROCESS)) == []
    assert multiprocessing.active_children() == []


def test_workers_stay_between_epochs_and_end() -> None:
    plan = epochs(PoseRecipe(stages=(PoseStage(epochs=4, batch_size=2),)), full_batches(8))
    draws = remaining(plan, 0, lambda epoch: [[100 * epoch.number + step] * 2 for step in range(epoch.steps)])
    loaded = torch.cat(list(load(Pids(), draws, 2, SINGLE_PROCESS)))
    assert loaded[:, 0].tolist() == [100 * epoch + step for epoch in range(4) for step in range(4) for _ in range(2)]
    assert len(set(loaded[:, 1].tolist())) == 2
    assert multiprocessing.active_children() == []


def test_closing_ends_the_workers() -> None:
    batches = load(Pids(), ([draw] for draw in range(10**9)), 2, SINGLE_PROCESS)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert multiprocessing.active_children() == []


def test_loading_leaves_torchs_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    assert [batch[0, 0].item() for batch in load(Pids(), [[3, 4]], 0, Ranks(1, 2))] == [4], "the share of one of two"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("batch", "shares"), [([5, 6], [5, 6, 5]), ([5], [5, 5, 5]), ([5, 6, 7, 8], [5, 8, 6, 7])])
def test_no_process_gets_an_empty_share(batch: list[int], shares: list[int]) -> None:
    found: list[int] = []
    for index in range(3):
        for loaded in load(Pids(), [batch], 0, Ranks(index, 3)):
            found += loaded[:, 0].tolist()
    assert found == shares


@pytest.mark.parametrize(("step", "left"), [(0, 8), (3, 5), (4, 4), (5, 3), (8, 0)])
def test_remaining_batches_start_at_the_step(step: int, left: int) -> None:
    plan = epochs(PoseRecipe(stages=(PoseStage(epochs=2, batch_size=10),)), full_batches(45))
    whole = [(epoch, index) for epoch in (0, 1) for index in range(4)]
    rest = plan if step < 4 else plan[1:]
    found = list(remaining(rest, step, lambda epoch: [[(epoch.number, index)] for index in range(epoch.steps)]))
    assert found == [[draw] for draw in whole[8 - left :]]


def test_detector_batches_resume_and_partition(synthetic_scenes: Path) -> None:
    """Two epochs in one go give the batches of a run that resumes in the middle, and those of two ranks."""
    stage = {"long_side": 64, "epochs": 2, "batch_size": 4}
    recipe = from_dict({"task": "detector", "data": {"folders": [str(synthetic_scenes)]}, "stages": [stage]})
    assert isinstance(recipe, DetectorRecipe)
    task = DetectorTask(recipe)
    plan = epochs(recipe, task.steps)
    stage_data = task.prepare(recipe.stages[0])

    def images(step: int, ranks: Ranks = SINGLE_PROCESS) -> list[list[bytes]]:
        batches = stage_data.batches(until_end_of_stage(plan, plan[0]), step, 0, ranks)
        return [[image.numpy().tobytes() for image in batch[0]] for batch in batches]

    whole = images(0)
    assert len(whole) == plan[-1].last
    assert len({image for batch in whole for image in batch}) == 4 * len(whole), "each epoch augments anew"
    middle = plan[1].first + 1
    assert images(middle) == whole[middle:]
    shares = [images(0, Ranks(index, 2)) for index in (0, 1)]
    assert [sorted(one + other) for one, other in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


@pytest.fixture(scope="module")
def recipe_file(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(to_yaml(from_dict({**TINY, "data": {"labels": "ground_truth", "folder": str(synthetic_shards)}})))
    return path


def two_steps(method: str, workers: int, recipe_file: Path, out: Path) -> dict[str, torch.Tensor]:
    """Start method and number of workers -> the state of a run that was stopped after each of its first two steps."""
    words = [method, str(workers), str(recipe_file), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TWO_STEPS, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(out / "state.safetensors")


@pytest.fixture(scope="module")
def without_workers(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return two_steps("spawn", 0, recipe_file, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_start_method_does_not_change_weights(
    method: str, recipe_file: Path, without_workers: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    found = two_steps(method, 1, recipe_file, tmp_path / "run")
    assert all(torch.equal(tensor, found[name]) for name, tensor in without_workers.items())
