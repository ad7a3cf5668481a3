"""Frozen stages of a backbone: their weights stay unchanged, all later layers are trained."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import safetensors.torch

from featherpose.errors import RecipeError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import save_weights
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict
from featherpose.training import loop
from featherpose.training.tasks import check
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    save_weights(create_network("inverted_pose", width=0.5), path)
    return path


def recipe(folder: Path, weights_file: Path | str, frozen: int, **changes: object) -> PoseRecipe:
    network = {"network": "inverted_pose", "options": {"width": 0.5}}
    data = {"labels": "ground_truth", "folder": str(folder)}
    return from_dict(
        {**TINY, **network, "data": data, "pretrained": str(weights_file), "frozen_stages": frozen, **changes}
    )


@pytest.mark.parametrize("frozen", [0, 2, 5])
def test_only_unfrozen_stages_change(weights_file: Path, synthetic_shards: Path, tmp_path: Path, frozen: int) -> None:
    loop.train(recipe(synthetic_shards, weights_file, frozen), tmp_path / "run", device="cpu", workers=0, quiet=True)
    before = safetensors.torch.load_file(weights_file)
    after = safetensors.torch.load_file(tmp_path / "run" / "last.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen_prefixes = tuple(f"backbone.stages.{number}." for number in range(frozen))
    assert changed == {name for name in before if not name.startswith(frozen_prefixes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": ""}, "would freeze randomly initialized weights; set pretrained"),
        ({"frozen_stages": 6}, "frozen_stages is 6; the backbone of inverted_pose has 5"),
        ({"network": "lite_hrnet_18", "options": {}}, "the backbone of lite_hrnet_18 has no stages"),
    ],
)
def test_invalid_frozen_stages_raise_in_check(
    weights_file: Path, synthetic_shards: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check(recipe(synthetic_shards, weights_file, 2, **changes))
