"""The built-in recipes by name; each states only its differences from the recipe it is derived from.

`paper-*` follows the CBAM-LiteHRNet paper, for every row of its tables; `baseline-*` trains the same networks with
current methods; `pretrain-*`, `finetune-*` and `distill-*` train the shipped models; `custom-*` is for custom data
sets. The paper's batch size of 256 and 150 epochs are meant for a GPU; `--set stages.0.batch_size=32` also scales the
learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from featherpose import zoo
from featherpose.data.augment import Augmentation
from featherpose.errors import RecipeError, did_you_mean
from featherpose.recipes.detector import DetectorRecipe, DetectorStage
from featherpose.recipes.pose import Distill, PoseData, PoseRecipe, PoseStage, PoseValidation
from featherpose.recipes.recipe import Optimizer, Recipe, Schedule, Validation
from featherpose.size import Size

# A small network trained for a few hours on a CPU underfits, so augmentation is mild.
MILD = Augmentation(
    scale=(0.8, 1.25), rotation=30.0, rotation_prob=0.5, half_body_prob=0.1, color_prob=0.5, occlusion_prob=0.1
)

# FeatherPose trains better with weak augmentation (docs/log/2026-11-29-candidates.md).
WEAK = replace(
    MILD, rotation_prob=0.2, color_prob=0.2, half_body_prob=0, occlusion_prob=0, gray_prob=0, blur_prob=0, noise_prob=0
)

# Most of the training is done at low resolution, where a step costs a quarter: constant learning rate, run for as long
# as there is time.
PRETRAIN = PoseRecipe(
    network="cbam_lite_hrnet_18",
    stages=(PoseStage(input_size=Size(height=128, width=96), epochs=200, batch_size=32, sigma=1.5),),
    augmentation=MILD,
    optimizer=Optimizer(lr=2e-3, lr_base_batch_size=32),
    schedule=Schedule(name="constant", warmup=500),
)

# When that no longer helps, the learning rate decays over 160x128 and full resolution, starting with the EMA weights of
# the first run. One epoch at full resolution, on COCO alone, made them worse (docs/log/2026-11-24-first-weights.md).
FINETUNE = PRETRAIN.model_copy(
    update={
        "stages": (
            PoseStage(input_size=Size(height=160, width=128), epochs=6, batch_size=32, sigma=1.75),
            PoseStage(input_size=Size(height=256, width=192), epochs=6, batch_size=32, sigma=2.0),
        ),
        "optimizer": Optimizer(lr=1e-3, lr_base_batch_size=32),
        "schedule": Schedule(name="cosine", warmup=0),
        "pretrained": "runs/pretrain-cbam_lite_hrnet_18/best.safetensors",
    }
)

# RepPose trains five times as fast on a CPU: a larger batch size, and the learning rate scaled with it.
PRETRAIN_REP = PRETRAIN.model_copy(
    update={
        "network": "rep_pose",
        "stages": (PoseStage(input_size=Size(height=128, width=96), epochs=200, batch_size=64, sigma=1.5),),
        "schedule": Schedule(name="constant", warmup=300),
    }
)

# A backbone pretrained on ImageNet needs a lower learning rate; DARK decodes small heatmaps more accurately
# (docs/log/2026-11-25-feather.md).
PRETRAIN_FEATHER = PRETRAIN_REP.model_copy(
    update={
        "network": "feather_pose",
        "codec": "dark",
        "augmentation": WEAK,
        "stages": (PoseStage(input_size=Size(height=128, width=96), epochs=20, batch_size=64, sigma=1.5),),
        "optimizer": Optimizer(lr=1e-3, lr_base_batch_size=32),
        "schedule": Schedule(name="cosine", warmup=200),
        "pretrained": "efficientnet_lite0",
    }
)

# A larger input, from those weights. The first stages (edges and corners) are trained by then: freezing them makes a
# step a quarter shorter.
FINETUNE_FEATHER = PRETRAIN_FEATHER.model_copy(
    update={
        "data": PoseData(sampling_weights={"lspet": 0.3}),
        "stages": (PoseStage(input_size=Size(height=192, width=128), epochs=6, batch_size=64, sigma=1.75),),
        "schedule": Schedule(name="cosine", warmup=100),
        "pretrained": "runs/pretrain-feather_pose/best.safetensors",
        "frozen_stages": 2,
    }
)

# The largest input goes on from its own weights with every layer trained, and a learning rate that ends at zero. Half
# of every target is the teacher's keypoint.
DISTILL_FEATHER = FINETUNE_FEATHER.model_copy(
    update={
        "stages": (PoseStage(input_size=Size(height=256, width=192), epochs=8, batch_size=64, sigma=2.0),),
        "distill": Distill(teacher="labels", weight=0.5),
        "optimizer": Optimizer(lr=1e-3, lr_base_batch_size=32, weight_decay=0.05),
        "schedule": Schedule(name="cosine", warmup=100, min_lr_ratio=0.0),
        "pretrained": "accurate",
        "frozen_stages": 0,
    }
)

# Fine-tuning on a custom data set of a few hundred samples: short, low learning rate, every label as annotated.
CUSTOM = PRETRAIN_FEATHER.model_copy(
    update={
        "augmentation": MILD,
        "skeleton": "data",
        "data": PoseData(labels="ground_truth", val_fraction=0.2),
        "stages": (PoseStage(input_size=Size(height=192, width=128), epochs=30, batch_size=16, sigma=1.75),),
        "optimizer": Optimizer(lr=1e-3, lr_base_batch_size=16),
        "schedule": Schedule(name="cosine", warmup=50),
        "ema_decay": 0.99,
        "validation": PoseValidation(interval=5),
        "pretrained": "",
    }
)

# The person detector. The backbone comes from the pose weights: after five epochs, AP is 15.2 on the validation set
# and 12.8 from ImageNet weights. It has a lower learning rate than the new layers, and its first stages are frozen: a
# quarter of each step's time, for edges and corners. The last quarter of the time, at a larger input and without
# mosaics, shows people as inference does: it adds three points of AP.
PRETRAIN_DETECTOR = DetectorRecipe(
    stages=(
        DetectorStage(long_side=256, epochs=28, batch_size=32, mosaic_prob=0.3),
        DetectorStage(long_side=320, epochs=6, batch_size=32, mosaic_prob=0.0),
    ),
    optimizer=Optimizer(lr=2e-3, backbone_lr_ratio=0.3, weight_decay=0.05, clip_grad_norm=10.0),
    schedule=Schedule(name="cosine", warmup=200),
    pretrained="default",
    frozen_stages=2,
    validation=Validation(interval=5),
)

# More of the same, from those weights and at half the rate: more epochs, most of them at the size of inference. Mosaics
# end when a fifth of the epochs is left.
FINETUNE_DETECTOR = PRETRAIN_DETECTOR.model_copy(
    update={
        "stages": (
            DetectorStage(long_side=256, epochs=40, batch_size=32, mosaic_prob=0.3),
            DetectorStage(long_side=320, epochs=30, batch_size=32, mosaic_prob=0.3),
            DetectorStage(long_side=320, epochs=18, batch_size=32, mosaic_prob=0.0),
        ),
        "optimizer": Optimizer(lr=1e-3, backbone_lr_ratio=0.3, weight_decay=0.05, clip_grad_norm=10.0),
        "schedule": Schedule(name="cosine", warmup=100),
        "pretrained": "runs/pretrain-feather_detect/best.safetensors",
    }
)

# The paper, section 4: SGD, batch size 256, 150 epochs, lr 0.0025 divided by 10 after 40 and 80, an 80/20 split; flip
# test, post-Gaussian filter, quarter offset. It leaves open: momentum (here 0.9), weight decay (none), initialization
# (random), sigma, augmentation and the training boxes (all three HRNet's), and which epoch is reported: the last one,
# so that the fifth on which the scores are computed selects nothing.
PAPER = PoseRecipe(
    data=PoseData(labels="ground_truth", val_fraction=0.2),
    unbiased=False,
    stages=(PoseStage(epochs=150, batch_size=256),),
    optimizer=Optimizer(name="sgd", lr=2.5e-3, lr_base_batch_size=256, weight_decay=0.0),
    schedule=Schedule(name="multistep", warmup=0, milestones=(40, 80)),
    ema_decay=0.0,
    validation=PoseValidation(flip_test=True, blur_kernel=11, select_best=False),
)

# HRNet's augmentation on COCO: rotations and scales of normal deviations 45 degrees and 0.35, half bodies, no shift and
# no change of color.
HRNET_COCO = replace(
    Augmentation.none(),
    flip_prob=0.5,
    scale=(0.65, 1.35),
    scale_sigma=0.35,
    rotation_prob=0.6,
    rotation=2 * 45.0,
    half_body_prob=0.3,
)
# On MPII, and for Lite-HRNet on both data sets: 30 degrees and 0.25. On MPII without half bodies.
LITE_HRNET_COCO = replace(HRNET_COCO, rotation=2 * 30.0, scale=(0.75, 1.25), scale_sigma=0.25)
HRNET_MPII = replace(LITE_HRNET_COCO, half_body_prob=0.0)

# Later methods: AdamW, cosine schedule with warm-up, EMA weights, color and occlusion augmentation, UDP's unbiased
# coordinates, which are decoded with DARK's step.
BASELINE = PAPER.model_copy(
    update={
        "codec": "udp",
        "unbiased": True,
        "augmentation": Augmentation(),
        "optimizer": Optimizer(lr=4e-3, lr_base_batch_size=256, clip_grad_norm=1.0),
        "schedule": Schedule(name="cosine", warmup=500),
        "ema_decay": 0.9998,
        "validation": PoseValidation(flip_test=True),
    }
)


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables: a network with its options at an input size, and a codec if not the default one."""

    network: str
    size: Size
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    codec: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """Part of the recipe name between the kind and the data set."""
        return f"{self.label or self.network}-{self.size}"


COCO_ROWS = (
    Row("hrnet_w32", Size(height=384, width=288)),
    Row("hrnet_w48", Size(height=384, width=288)),
    Row("hrnet_w48", Size(height=128, width=96), codec="dark", label="dark_hrnet_w48"),
    Row("simple_baseline_resnet152", Size(height=384, width=288)),
    Row("lite_hrnet_18", Size(height=384, width=288)),
    Row("lite_hrnet_30", Size(height=384, width=288)),
    Row("mobilenet_v2", Size(height=256, width=192)),
    Row("cbam_lite_hrnet_18", Size(height=256, width=192)),
    Row("cbam_lite_hrnet_18", Size(height=384, width=288), {"width": 48}, label="cbam_lite_hrnet_18_width48"),
)
MPII_ROWS = (
    Row("simple_baseline_resnet152", Size(height=256, width=256)),
    Row("hrnet_w32", Size(height=256, width=256)),
    Row("tokenpose_l_d24", Size(height=256, width=256)),
    Row("lite_hrnet_18", Size(height=256, width=256)),
    Row("cbam_lite_hrnet_18", Size(height=256, width=256)),
)


def _recipe_for_row(base: PoseRecipe, row: Row, source: str, skeleton: str) -> PoseRecipe:
    """The base recipe for a row: its network at its input size, on the samples of one source."""
    sigma = 3.0 if row.size.height > 256 else 1.5 if row.size.height < 192 else 2.0  # proportional to the heatmap size
    changes: dict[str, Any] = {
        "network": row.network,
        "options": row.options,
        "skeleton": skeleton,
        # MPII is evaluated in its annotated squares, so it is trained in them.
        "data": base.data.model_copy(update={"sources": (source,), "keypoint_boxes": ()}),
        "stages": (base.stages[0].model_copy(update={"input_size": row.size, "sigma": sigma}),),
    }
    if base.validation.blur_kernel and sigma == 3.0:
        changes["validation"] = base.validation.model_copy(update={"blur_kernel": 17})
    if row.codec:
        validation = base.validation.model_copy(update={"blur_kernel": 0})
        changes |= {"codec": row.codec, "unbiased": True, "validation": validation}
    return base.model_copy(update=changes)


def _paper_recipe(row: Row, source: str, skeleton: str) -> PoseRecipe:
    """The paper's recipe for a row, with the augmentation of HRNet or Lite-HRNet."""
    recipe = _recipe_for_row(PAPER, row, source, skeleton)
    augmentation = HRNET_COCO
    if source == "mpii":
        augmentation = HRNET_MPII
    elif "lite_hrnet" in row.network:
        augmentation = LITE_HRNET_COCO
    return recipe.model_copy(update={"augmentation": augmentation})


def _baseline_recipe(row: Row, source: str, skeleton: str) -> PoseRecipe:
    """Current methods for the network of a row."""
    return _recipe_for_row(BASELINE, row, source, skeleton)


RECIPES: dict[str, Recipe] = {
    "pretrain-cbam_lite_hrnet_18": PRETRAIN,
    "finetune-cbam_lite_hrnet_18": FINETUNE,
    "pretrain-rep_pose": PRETRAIN_REP,
    "pretrain-feather_pose": PRETRAIN_FEATHER,
    "finetune-feather_pose": FINETUNE_FEATHER,
    "distill-feather_pose": DISTILL_FEATHER,
    "custom-feather_pose": CUSTOM,
    "pretrain-feather_detect": PRETRAIN_DETECTOR,
    "finetune-feather_detect": FINETUNE_DETECTOR,
    **{
        f"{kind}-{row.name}-{source}": recipe_for(row, source, skeleton)
        for kind, recipe_for in (("paper", _paper_recipe), ("baseline", _baseline_recipe))
        for source, skeleton, rows in (("coco", "coco17", COCO_ROWS), ("mpii", "mpii16", MPII_ROWS))
        for row in rows
    },
}


def get_recipe(name: str) -> Recipe:
    """Name of a recipe, or of a network -> recipe; RecipeError with the nearest names if there is none."""
    return find_recipe(name)[0]


def find_recipe(name: str) -> tuple[Recipe, str]:
    """Name of a recipe -> the recipe and ""; name of a network -> a recipe that trains it, and a sentence on which.

    That is the network's first pretrain-* or else baseline-* recipe with default options; `BASELINE` at 256x192 for a
    network without one.
    """
    if name in RECIPES:
        return RECIPES[name], ""
    for kind in ("pretrain-", "baseline-"):
        for known, recipe in RECIPES.items():
            if known.startswith(kind) and recipe.network == name and not recipe.options:
                return recipe, f"Using the recipe {known} of the network {name}."
    networks = [entry.name for entry in zoo.read() if entry.task == "pose"]
    if name in networks:
        recipe = _baseline_recipe(Row(name, Size(height=256, width=192)), "coco", "coco17")
        return recipe, f"The network {name} has no recipe: using the settings of baseline-* at 256x192 on COCO."
    near = did_you_mean(name, [*RECIPES, *networks])
    raise RecipeError(f"Unknown recipe {name!r}.{near} A path to a YAML file works too.")
