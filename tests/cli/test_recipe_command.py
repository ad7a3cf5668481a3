"""The command `recipe`: list, show and check."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from featherpose.cli import featherpose
from featherpose.errors import FeatherposeError
from featherpose.recipes.reading import load
from featherpose.recipes.recipe import to_dict
from featherpose.recipes.shipped import RECIPES


def run(*words: str) -> Result:
    return CliRunner().invoke(featherpose, ["recipe", *words], catch_exceptions=False)


def test_list_prints_one_line_per_recipe() -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    (line,) = [line for line in lines if line.startswith("paper-cbam_lite_hrnet_18-256x192-coco ")]
    assert "150 x 256x192; sgd, pose" in line


def test_list_filters_by_word_and_prints_json() -> None:
    found = json.loads(run("list", "mpii", "--json").stdout)
    assert set(found) == {name for name in RECIPES if "mpii" in name}
    assert found["paper-lite_hrnet_18-256x256-mpii"]["skeleton"] == "mpii16"


def test_show_output_loads_as_a_recipe(tmp_path: Path) -> None:
    shown = run("show", "pretrain-cbam_lite_hrnet_18", "--set", "seed=5")
    (tmp_path / "mine.yaml").write_text(shown.stdout)
    assert load(tmp_path / "mine.yaml") == RECIPES["pretrain-cbam_lite_hrnet_18"].model_copy(update={"seed": 5})


@pytest.mark.torch
def test_check_prints_the_parameter_count(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    assert "valid. cbam_lite_hrnet_18, 1,082,246 parameters" in run("check", "pretrain-cbam_lite_hrnet_18").stdout


# Of recipes with the same data set, one. That the networks fit their recipes is tested in tests/training.
DIFFERENT = {str(to_dict(recipe)["data"]): name for name, recipe in RECIPES.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_has_whole_cells(name: str) -> None:
    sides = [side for stage in RECIPES[name].stages for side in stage.size.shape]
    assert [side for side in sides if side % 32] == []


@pytest.mark.torch
@pytest.mark.parametrize("name", DIFFERENT.values())
def test_shipped_recipes_of_every_data_set_pass(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    assert "valid" in run("check", name, "--set", "pretrained=''", "--set", "frozen_stages=0").stdout


@pytest.mark.torch
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.folder=nowhere", "There is no folder nowhere"),
        ("network=cbam", "Unknown network 'cbam'"),
        ("options={wide: 3}", "wide"),
        ("pretrained=nosuch.safetensors", "nosuch.safetensors: no such model file"),
        ("stages.0.input_size=128x100", "128x100"),
        ("stages.0.input_size=[96, 128]", "is not a size; wanted height x width"),
        ("stages.0.input_size=96x128", "did you mean 128x96"),
    ],
)
def test_check_raises_the_errors_of_train(
    setting: str, message: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    with pytest.raises(FeatherposeError, match=message):
        run("check", "pretrain-cbam_lite_hrnet_18", "--set", setting)
