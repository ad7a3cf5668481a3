"""The recipes that come with featherpose, by name; each says only what differs from the defaults of `Recipe`."""

from __future__ import annotations

from featherpose.data.augment import Augmentation
from featherpose.errors import RecipeError, did_you_mean
from featherpose.train.recipe import Data, Optimizer, Recipe, Schedule, Stage

# A small network on few hours of CPU underfits: augmentation is mild.
MILD = Augmentation(
    scale=(0.8, 1.25), rotation=30.0, rotation_prob=0.5, half_body_prob=0.1, color_prob=0.5, occlusion_prob=0.1
)

# Most is learnt at low resolution, where a step costs a quarter: a constant rate for as long as there is time.
OPEN = Recipe(
    network="cbam_lite_hrnet_18",
    stages=(Stage(size=(96, 128), epochs=200, batch=32, sigma=1.5),),
    augmentation=MILD,
    optimizer=Optimizer(rate=2e-3),
    schedule=Schedule(name="flat", warmup=500),
)

# Then the rate goes down at full resolution, on the cleanest labels, from the averaged weights of the first run.
FINISH = OPEN.model_copy(
    update={
        "data": Data(sources=("coco",)),
        "stages": (Stage(size=(192, 256), epochs=1, batch=32, sigma=2.0),),
        "optimizer": Optimizer(rate=1e-3),
        "schedule": Schedule(name="cosine", warmup=0),
        "init": "runs/open-cbam_lite_hrnet_18/best.safetensors",
    }
)

RECIPES: dict[str, Recipe] = {
    "open-cbam_lite_hrnet_18": OPEN,
    "finish-cbam_lite_hrnet_18": FINISH,
}


def named(name: str) -> Recipe:
    """Name -> recipe; RecipeError with the nearest names."""
    if name not in RECIPES:
        raise RecipeError(f"Unknown recipe {name!r}.{did_you_mean(name, RECIPES)} A path to a YAML file works too.")
    return RECIPES[name]
