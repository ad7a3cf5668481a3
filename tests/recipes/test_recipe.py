from pathlib import Path

import pytest

pytest.importorskip("pydantic")
from featherpose.errors import RecipeError
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import load, override, with_data
from featherpose.recipes.recipe import to_yaml
from featherpose.recipes.schedule import epochs, full_batches, lr_ratio, peak_lr
from featherpose.recipes.shipped import COCO_ROWS, MPII_ROWS, RECIPES, get_recipe

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_yaml_round_trip(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(to_yaml(RECIPES[name]))
    assert load(tmp_path / "r.yaml") == RECIPES[name]
    assert load(tmp_path / "r.yaml").digest == RECIPES[name].digest


def test_override_changes_single_fields() -> None:
    settings = ["stages.0.epochs=3", "optimizer.lr=0.1", "augmentation.scale=[1, 2]", "network=x", "options.width=48"]
    recipe = override(PoseRecipe(), settings)
    assert recipe.stages[0].epochs == 3
    assert recipe.options == {"width": 48}, "its keys are the network's"
    assert recipe.optimizer.lr == 0.1
    assert recipe.augmentation.scale == (1, 2)
    assert recipe.network == "x"
    assert recipe.digest != PoseRecipe().digest


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lrr=1", r"unknown key 'lrr'. Did you mean 'lr'"),
        ("stages.1.epochs=1", r"unknown key '1'"),
        ("optimizer.lr", "wanted key=value"),
        ("optimizer.lr=fast", r"optimizer.lr is 'fast'"),
        ("optimizer.lr=-1", "greater than 0"),
        ("optimizer.name=adam", "'adamw' or 'sgd'"),
        ("skeleton=coco18", "unknown skeleton 'coco18'. Did you mean 'coco17'"),
        ("stages=[]", "at least 1 item"),
        ("augmentation.flip_prob=3", "flip_prob is 3"),
        ("loss=l1", "unknown loss 'l1'. Known: focal, mse, ohkm"),
        ("codec=msr", "unknown codec 'msr'"),
        ("optimizer.momentum=0.5", "optimizer.momentum has no effect without optimizer.name=sgd"),
        ("schedule.milestones=[3]", "schedule.milestones has no effect without schedule.name=multistep"),
        ("distill.weight=0.3", "distill.weight has no effect without distill.teacher"),
        ("data={sources: [coco], keypoint_boxes: [lsp]}", "data.keypoint_boxes has no effect without the same source"),
    ],
)
def test_invalid_setting_raises_with_hint(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        override(PoseRecipe(), [setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("netwrok: x\n", r"unknown key 'netwrok'. Did you mean 'network'"),
        ("optimizer: {lrr: 1}\n", r"unknown key 'optimizer.lrr'. Did you mean 'lr'"),
        ("stages: [{epoch: 1}]\n", r"unknown key 'stages.0.epoch'. Did you mean 'epochs'"),
        ("augmentation: {flipp: 1}\n", r"unknown key 'augmentation.flipp'"),
        ("- 1\n", "a recipe is a YAML mapping"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_invalid_recipe_file_raises_with_hint(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load(tmp_path / "r.yaml")


def test_unknown_recipe_suggests_nearest_name() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'pretrain-cbam_lite_hrnet_18'"):
        get_recipe("pretrain-cbam_lite_hrnet")


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("paper-")])
def test_paper_recipes_match_published_settings(name: str) -> None:
    recipe = RECIPES[name]
    assert (recipe.optimizer.name, recipe.stages[0].batch_size, recipe.stages[0].epochs) == ("sgd", 256, 150)
    assert recipe.data.val_fraction == 0.2, "an 80/20 split"
    assert recipe.validation.flip_test
    assert recipe.data.keypoint_boxes == (), "MPII is evaluated in its annotated squares"
    assert not recipe.validation.select_best, "the fifth that is reported selects nothing"
    plan = epochs(recipe, full_batches(1000))
    lrs = [peak_lr(recipe.optimizer, e.stage) * lr_ratio(recipe.schedule, e.first, plan) for e in plan]
    assert lrs == pytest.approx([2.5e-3] * 40 + [2.5e-4] * 40 + [2.5e-5] * 70)


@pytest.mark.parametrize(
    ("row", "rotation", "scale", "half_body"),
    [
        ("hrnet_w32-384x288-coco", 45, 0.35, 0.3),
        ("simple_baseline_resnet152-384x288-coco", 45, 0.35, 0.3),
        ("lite_hrnet_18-384x288-coco", 30, 0.25, 0.3),
        ("cbam_lite_hrnet_18-256x192-coco", 30, 0.25, 0.3),
        ("hrnet_w32-256x256-mpii", 30, 0.25, 0),
        ("lite_hrnet_18-256x256-mpii", 30, 0.25, 0),
    ],
)
def test_paper_rows_augment_as_hrnet_does(row: str, rotation: float, scale: float, half_body: float) -> None:
    recipe = RECIPES[f"paper-{row}"]
    assert isinstance(recipe, PoseRecipe)
    augmentation = recipe.augmentation
    assert augmentation.rotation == 2 * rotation, "a normal of this deviation, clipped at twice it"
    assert (augmentation.scale, augmentation.scale_sigma) == ((1 - scale, 1 + scale), scale)
    assert (augmentation.half_body_prob, augmentation.half_body_keypoints) == (half_body, 8)
    assert (augmentation.flip_prob, augmentation.rotation_prob, augmentation.shift) == (0.5, 0.6, 0)
    assert augmentation.color_prob == augmentation.occlusion_prob == 0


def test_every_table_row_has_paper_and_baseline() -> None:
    rows = [f"{row.name}-coco" for row in COCO_ROWS] + [f"{row.name}-mpii" for row in MPII_ROWS]
    assert len(set(rows)) == 14
    assert {f"{kind}-{row}" for kind in ("paper", "baseline") for row in rows} < set(RECIPES)


def test_with_data_sets_skeleton_and_labels() -> None:
    changed = with_data(get_recipe("pretrain-cbam_lite_hrnet_18"), "mine.json")
    assert (changed.data.folder, changed.data.labels, changed.skeleton) == ("mine.json", "ground_truth", "data")
    assert changed.stages == get_recipe("pretrain-cbam_lite_hrnet_18").stages
