"""Recipe of a person detector: whole images in, boxes of people out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from featherpose.data.scene_augment import SceneAugmentation
from featherpose.kinds import SIDE_MULTIPLE
from featherpose.recipes.recipe import Recipe, Section, Stage, ValFraction
from featherpose.size import Size


class DetectorData(Section, frozen=True):
    """Data set, labels and the validation split."""

    folders: Annotated[tuple[str, ...], Field(min_length=1)] = ("detector-train", "detector-extra")
    """Folders of shards of whole images: paths, or names in the data folder; a missing one is left out, said."""
    strict: bool = False
    """Labels that look wrong, such as coordinates from 0 to 1, are an error, not a warning."""
    teacher_threshold: Annotated[float, Field(ge=0, le=1)] = 0.45
    """Boxes of a teacher with a score below this threshold are ignored: neither person nor background."""
    val_fraction: ValFraction = 0.05
    """Fraction 1/n of the images held out for validation, selected by image name."""


class DetectorStage(Stage, frozen=True):
    """Part of the run with one input size."""

    long_side: Annotated[int, Field(gt=0)] = 256
    """Longer side of the network input in pixels, a multiple of 32; the shorter one follows the images' aspect."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Images per optimizer step, summed over all processes."""
    mosaic_prob: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Probability that an input shows four images beside each other (Bochkovskiy et al. 2020)."""

    @field_validator("long_side")
    @classmethod
    def _is_multiple(cls, value: int) -> int:
        if value % SIDE_MULTIPLE:
            raise ValueError(f"{value} is not a multiple of {SIDE_MULTIPLE}.")
        return value

    @property
    def size(self) -> Size:
        """The largest input: a square."""
        return Size(height=self.long_side, width=self.long_side)


class DetectorRecipe(Recipe, frozen=True):
    """A training run of a person detector."""

    task: Literal["detector"] = "detector"
    """What the network is trained for: `pose` or `detector`; it decides which fields a recipe has."""
    network: str = "feather_detect"
    """Name of the network; `feather_detect` is the only detector so far."""
    stages: Annotated[tuple[DetectorStage, ...], Field(min_length=1)] = (DetectorStage(),)
    """Stages of the run in order, each with its own input size."""
    data: DetectorData = DetectorData()
    """Data set, labels and the validation split."""
    augmentation: SceneAugmentation = SceneAugmentation()
    """Data augmentation of the training images."""
