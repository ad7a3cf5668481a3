"""Recipe of a pose network: crops of labeled persons in, one heatmap per keypoint out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherpose.codecs import CODECS
from featherpose.crop import PADDING
from featherpose.data.augment import Augmentation
from featherpose.errors import did_you_mean
from featherpose.recipes.recipe import InputSize, Recipe, Section, Stage, ValFraction, Validation
from featherpose.size import Size
from featherpose.skeleton import SKELETONS

LOSSES = ("mse", "ohkm", "focal")
"""Names of the losses: recipes are read without torch, which the losses themselves need."""


class PoseData(Section, frozen=True):
    """Data set, labels and the validation split."""

    folder: str = "pose-train"
    """Data set: folder of shards, or a data set of docs/data.md (coco/train2017); path, or name in the data folder."""
    val_folder: str = ""
    """Data set for validation, given as `folder` is (train2017 and val2017); empty: a part of `folder`."""
    category: str = ""
    """Name or id of the category that is trained on, where a file has several; empty: the one with keypoints."""
    strict: bool = False
    """Labels that look wrong, such as coordinates from 0 to 1, are an error, not a warning."""
    labels: Literal["ground_truth", "ground_truth+pseudo", "pseudo"] = "ground_truth+pseudo"
    """Labels to train on: `ground_truth`; `ground_truth+pseudo`, with gaps filled from teacher-labels.npz; `pseudo`."""
    teacher_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Pseudo-labels with a score below this threshold are not used."""
    sources: tuple[str, ...] = ()
    """Sources whose samples are used, such as coco and mpii; empty: all sources."""
    sampling_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """How often a sample of a source is drawn per epoch, such as `lspet: 0.5`; other sources are drawn once."""
    keypoint_boxes: tuple[str, ...] = ("mpii",)
    """Sources whose boxes are computed from the keypoints: MPII's annotated squares show people smaller than COCO's."""
    val_fraction: ValFraction = 0.05
    """Fraction 1/n of the images of `folder` held out for validation, by image name; unused with `val_folder`."""


class PoseStage(Stage, frozen=True):
    """Part of the run with one input size."""

    input_size: InputSize = Size(height=256, width=192)
    """Size of the network input in pixels, height x width."""
    sigma: Annotated[float, Field(gt=0)] = 2.0
    """Standard deviation of the target Gaussian in heatmap cells."""

    @property
    def size(self) -> Size:
        """The network's input."""
        return self.input_size


class PoseValidation(Validation, frozen=True):
    """Evaluation on the validation set during training."""

    flip_test: bool = False
    """Flip test: average the heatmaps of the image and of its horizontal flip."""
    blur_kernel: Annotated[int, Field(ge=0)] = 0
    """Width of the Gaussian filter on the heatmaps before decoding, in cells, odd; 11 for 64x48 cells, 0: none."""


class Distill(Section, frozen=True):
    """Distillation from a teacher."""

    teacher: str = ""
    """Teacher: a .safetensors file of this project, a shipped name, or `labels` (teacher-labels.npz); empty: none."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the teacher; the labels have the weight 1 - `weight`."""


class PoseRecipe(Recipe, frozen=True):
    """A training run of a pose network."""

    task: Literal["pose"] = "pose"
    """What the network is trained for: `pose` or `detector`; it decides which fields a recipe has."""
    network: str = "cbam_lite_hrnet_18"
    """Name of the network (`featherpose networks` lists them)."""
    stages: Annotated[tuple[PoseStage, ...], Field(min_length=1)] = (PoseStage(),)
    """Stages of the run in order, each with its own input size."""
    validation: PoseValidation = PoseValidation()
    """Evaluation on the validation set during training."""
    skeleton: str = "coco17"
    """Name of a skeleton, path of a YAML file, or `data` for the skeleton of the data set."""
    data: PoseData = PoseData()
    """Data set, labels and the validation split."""
    padding: Annotated[float, Field(gt=0)] = PADDING
    """Size of the crop relative to the person's box; it is stored with the weights and used at inference, too."""
    codec: str = "msra"
    """Codec of the target heatmaps and of decoding: `msra`, `dark` or `udp`."""
    unbiased: bool = True
    """Target heatmaps keep a keypoint's sub-cell position instead of rounding it (msra; other codecs always do)."""
    augmentation: Augmentation = Augmentation()
    """Data augmentation of the training samples."""
    loss: str = "mse"
    """Loss between predicted and target heatmaps: `mse`, `ohkm` or `focal`."""
    distill: Distill = Distill()
    """Distillation from a teacher."""

    @property
    def problem(self) -> str:
        """Message for an unknown name, or for a field that was changed but has no effect; "" if there is none."""
        return self._unknown_name() or self._second_validation_set() or super().problem

    def _second_validation_set(self) -> str:
        """Message for a recipe that names a validation set and a fraction of the training data as well, or ""."""
        default = PoseData().val_fraction
        if not self.data.val_folder or self.data.val_fraction == default:
            return ""
        return (
            f"data.val_fraction has no effect with data.val_folder; remove one of them (the fraction: set {default})."
        )

    def _unknown_name(self) -> str:
        """Message for an unknown codec, loss or skeleton, or ""; `create_network` checks the network."""
        choices = {
            "codec": (self.codec, CODECS),
            "loss": (self.loss, LOSSES),
            "skeleton": (self.skeleton, [*SKELETONS, "data"]),
        }
        for field, (name, known) in choices.items():
            is_file = field == "skeleton" and name.endswith((".yaml", ".yml"))
            if name not in known and not is_file:
                return f"unknown {field} {name!r}.{did_you_mean(name, known)}"
        return ""

    def _without_effect(self) -> dict[str, object]:
        data = self.data
        distill = self.distill
        return super()._without_effect() | {
            "unbiased": self.codec != "msra" and not self.unbiased and "codec=msra",
            "data.teacher_threshold": data.labels == "ground_truth"
            and data.teacher_threshold != PoseData().teacher_threshold
            and "data.labels=ground_truth+pseudo",
            "distill.teacher": data.labels == "pseudo"
            and distill.teacher == "labels"
            and "ground truth in data.labels",
            "distill.weight": not distill.teacher and distill.weight != Distill().weight and "distill.teacher",
            "validation.blur_kernel": self.validation.blur_kernel
            and CODECS[self.codec].blurs
            and "codec=msra (this codec applies its own Gaussian filter)",
            "data.keypoint_boxes": bool(data.sources)
            and data.keypoint_boxes != PoseData().keypoint_boxes
            and set(data.keypoint_boxes) - set(data.sources)
            and "the same source in data.sources",
            "data.sampling_weights": bool(data.sources)
            and set(data.sampling_weights) - set(data.sources)
            and "the same source in data.sources",
        }
