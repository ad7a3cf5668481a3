"""Frozen stages of a backbone: their weights stay unchanged, all later layers are trained."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import safetensors.torch

from featherpose.errors import RecipeError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import save_weights
from featherpose.recipes.recipe import Recipe, from_dict
from featherpose.training import loop
from featherpose.training.check import check
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    save_weights(create_network("inverted_pose", width=0.5), path)
    return path


def recipe(folder: Path, start: Path | str, frozen: int, **changes: object) -> Recipe:
    network = {"network": "inverted_pose", "options": {"width": 0.5}}
    data = {"labels": "ground_truth", "folder": str(folder)}
    return from_dict({**TINY, **network, "data": data, "pretrained": str(start), "frozen_stages": frozen, **changes})


@pytest.mark.parametrize("frozen", [0, 2, 5])
def test_frozen_stages_stay_and_the_others_learn(start: Path, drawn_people: Path, tmp_path: Path, frozen: int) -> None:
    loop.train(recipe(drawn_people, start, frozen), tmp_path / "run", device="cpu", workers=0, quiet=True)
    before = safetensors.torch.load_file(start)
    after = safetensors.torch.load_file(tmp_path / "run" / "last.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    still = tuple(f"backbone.stages.{number}." for number in range(frozen))
    assert moved == {name for name in before if not name.startswith(still)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": ""}, "would freeze randomly initialized weights; set pretrained"),
        ({"frozen_stages": 6}, "frozen_stages is 6; the backbone of inverted_pose has 5"),
        ({"network": "lite_hrnet_18", "options": {}}, "the backbone of lite_hrnet_18 has no stages"),
    ],
)
def test_what_cannot_be_frozen_is_said_before_the_run(
    start: Path, drawn_people: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check(recipe(drawn_people, start, 2, **changes))
