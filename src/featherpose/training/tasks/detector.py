"""The detector task: whole images in, boxes of people out; keypoints are an auxiliary target."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherpose import weights
from featherpose.codecs.boxes import PERSON
from featherpose.data.cache import Crops
from featherpose.data.folder import find_folder
from featherpose.data.rectangles import input_shapes, num_batches, shapes_of
from featherpose.data.sample import is_validation
from featherpose.data.scene import Scene, read_scenes
from featherpose.data.terms import DETECTOR_TEACHER
from featherpose.errors import DataError
from featherpose.manifest import DetectorManifest
from featherpose.networks import create_detector
from featherpose.recipes.detector import DetectorRecipe, DetectorStage
from featherpose.recipes.recipe import Stage
from featherpose.recipes.schedule import Epoch
from featherpose.records import Tally
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training.detection_losses import DetectionTargets, detection_loss
from featherpose.training.fingerprint import Fingerprint, fingerprint
from featherpose.training.freeze import freeze
from featherpose.training.loader import load, remaining
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.task import Batch, Progress
from featherpose.training.tasks.detector_training import SceneDataset, SceneSet, scene_draws
from featherpose.training.tasks.detector_validation import CONF, DetectorValidationSet, validate, validation_set_of

LABELED_BY_TEACHER = ("voc2012",)
"""Sources whose boxes are partly a teacher's: they are not in the validation set."""


@dataclass(frozen=True, eq=False)
class DetectorStageData:
    """Training and validation set at the input size of one stage."""

    recipe: DetectorRecipe
    stage: DetectorStage
    training_set: SceneSet
    validation_set: DetectorValidationSet
    broken: tuple[str, ...]
    """Images of both sets that could not be decoded."""
    notes: tuple[str, ...]
    """What was done to images that were not taken as they are."""

    def batches(
        self, epochs: Sequence[Epoch], step: int, workers: int, ranks: Ranks = SINGLE_PROCESS, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Inputs uint8 (B, H, W, 3) and the fields of `DetectionTargets` of the epochs, from the run's `step` on."""
        seed = self.recipe.seed
        dataset = SceneDataset(
            scenes=self.training_set,
            sizes=input_shapes(self.stage.long_side),
            augmentation=self.recipe.augmentation,
            mosaic_prob=self.stage.mosaic_prob,
            seed=seed,
        )
        draws = remaining(epochs, step, lambda epoch: scene_draws(self.training_set, seed, epoch))
        return load(dataset, draws, workers, ranks, pin)

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks = SINGLE_PROCESS) -> dict[str, float]:
        """Network -> its scores on the validation set (`detector_validation.validate`)."""
        return validate(network, self.validation_set, device, ranks)


class DetectorTask:
    """Training of a network that predicts boxes and, beside them, keypoints."""

    def __init__(self, recipe: DetectorRecipe) -> None:
        """Read the labels; DataError where no folder of the recipe exists, or one set would be empty."""
        self.recipe = recipe
        folders, missing = _find_folders(recipe.data.folders)
        self._tally = Tally("scenes")
        scenes, notes = read_scenes(
            folders, recipe.data.teacher_threshold, strict=recipe.data.strict, tally=self._tally
        )
        self.training_scenes, self.validation_scenes = _split(scenes, recipe.data.val_fraction, folders[0])
        self._notes = [*missing, *notes]

    @property
    def keypoint_names(self) -> Sequence[str]:
        """Names of the K keypoints that the network predicts."""
        return COCO17.keypoint_names

    @property
    def sources(self) -> list[str]:
        """Name of the data set of each training image."""
        return [scene.source for scene in self.training_scenes]

    @property
    def num_validation(self) -> int:
        """Images of the validation set."""
        return len(self.validation_scenes)

    @property
    def num_left_out(self) -> int:
        """Scenes whose record is broken."""
        return self._tally.left_out

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells these images and labels from others."""
        scenes = [*self.training_scenes, *self.validation_scenes]
        arrays = (array for scene in scenes for array in (scene.boxes_xywh, scene.kinds, scene.keypoints))
        keys = (scene.key for scene in scenes)
        return fingerprint(len(self.training_scenes), len(self.validation_scenes), keys, arrays)

    @property
    def notes(self) -> Sequence[str]:
        """Remarks about the data set for the user, one sentence each."""
        return self._notes

    @property
    def teachers(self) -> list[str]:
        """Where labels that no human made come from, one sentence each."""
        return [DETECTOR_TEACHER] if set(LABELED_BY_TEACHER) & set(self.sources) else []

    def steps(self, stage: Stage) -> int:
        """Number of steps of an epoch: the batches of every input shape."""
        assert isinstance(stage, DetectorStage)
        return num_batches(self._shapes(stage), stage.batch_size)

    def create_network(self) -> nn.Module:
        """The network, randomly initialized."""
        return create_detector(self.recipe.network, len(self.keypoint_names), **self.recipe.options)

    def prepare(
        self, stage: Stage, progress: Progress | None = None, *, rebuild_cache: bool = False
    ) -> DetectorStageData:
        """Training and validation set of a stage; the first time, images are decoded into the cache."""
        assert isinstance(stage, DetectorStage)
        scenes = [*self.training_scenes, *self.validation_scenes]
        crops = Crops.build_whole(scenes, progress=progress, rebuild=rebuild_cache)
        is_training = np.arange(len(scenes)) < len(self.training_scenes)
        crops.usable_rows(np.flatnonzero(is_training), "of the training set")
        crops.usable_rows(np.flatnonzero(~is_training), "of the validation set")
        validation_set = validation_set_of(_scene_set(scenes, crops, ~is_training, stage), stage.long_side)
        training_set = _scene_set(scenes, crops, is_training, stage)
        return DetectorStageData(self.recipe, stage, training_set, validation_set, crops.broken, crops.notes)

    def validation_set(self, long_side: int) -> DetectorValidationSet:
        """The validation set at this long side, without the training set."""
        crops = Crops.build_whole(self.validation_scenes)
        everything = np.ones(len(self.validation_scenes), bool)
        scenes = _scene_set(self.validation_scenes, crops, everything, DetectorStage(long_side=long_side))
        return validation_set_of(scenes, long_side)

    def loss(self, images: Tensor, outputs: Any, targets: Batch) -> Tensor:
        """Images (B, 3, H, W), `RawDetections` and the fields of `DetectionTargets` -> loss."""
        labels = DetectionTargets(*targets)
        # The rows of a batch are padded to the same number; what no image of it needs would only cost time.
        used = int((labels.kinds > 0).sum(1).max())
        trimmed = DetectionTargets._make([*(field[:, :used] for field in labels[:-1]), labels.negative_weight])
        return detection_loss(outputs, trimmed, Size(height=images.shape[2], width=images.shape[3]))

    def is_better(self, result: dict[str, Any], other: dict[str, Any]) -> bool:
        """A larger input ranks above any score: the run is meant to end there. Then AP and recall count alike."""
        return _rank(result) > _rank(other)

    def describe(self, stage: Stage, *, recipe: dict[str, Any], training: dict[str, Any]) -> DetectorManifest:
        """Stage, and where the weights come from -> what their file and the exported file say about the model.

        The exported file has the `conf` of the validation result instead, where there is one.
        """
        assert isinstance(stage, DetectorStage)
        return DetectorManifest(
            network=self.recipe.network,
            options=self.recipe.options,
            skeleton=COCO17,
            long_side=stage.long_side,
            conf=CONF,
            recipe=recipe,
            training=training,
        )

    def _shapes(self, stage: DetectorStage) -> Any:
        return shapes_of([scene.size for scene in self.training_scenes], stage.long_side)


def check_detector(recipe: DetectorRecipe) -> int:
    """Recipe -> number of parameters of its network; raises the error that `DetectorTask` would raise, if any.

    No weights are initialized and no label is read.
    """
    _find_folders(recipe.data.folders)
    if recipe.pretrained:
        weights.find_pretrained(recipe.pretrained)
    with torch.device("meta"):
        network = create_detector(recipe.network, COCO17.num_keypoints, **recipe.options)
        freeze(network, recipe)
    return sum(parameter.numel() for parameter in network.parameters())


def _find_folders(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Folders of the recipe -> those that exist, and a note for each that is missing; DataError if none exists."""
    found: list[Path] = []
    missing: list[DataError] = []
    for name in names:
        try:
            found.append(find_folder(name))
        except DataError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found, [f"Training without one data set. {error}" for error in missing]


def _split(scenes: Sequence[Scene], val_fraction: float, folder: Path) -> tuple[list[Scene], list[Scene]]:
    """Scenes -> training and validation set; held-out scenes that a teacher labeled are in neither."""
    held_out = [scene for scene in scenes if is_validation(scene.image, val_fraction)]
    validation = [scene for scene in held_out if scene.source not in LABELED_BY_TEACHER]
    training = [scene for scene in scenes if not is_validation(scene.image, val_fraction)]
    people = [sum(np.count_nonzero(scene.kinds == PERSON) for scene in part) for part in (training, validation)]
    if not all(people):
        raise DataError(
            f"{folder}: with data.val_fraction={val_fraction:g}, {people[0]} people are in the training set and "
            f"{people[1]} in the validation set; choose another fraction, or add images."
        )
    return training, validation


def _scene_set(scenes: Sequence[Scene], crops: Crops, chosen: Any, stage: DetectorStage) -> SceneSet:
    """Scenes with a decoded image among the chosen ones."""
    rows = np.flatnonzero(chosen & crops.usable)
    kept = [scenes[row] for row in rows.tolist()]
    return SceneSet(kept, crops, rows, shapes_of([scene.size for scene in kept], stage.long_side))


def _rank(result: dict[str, Any]) -> tuple[int, float]:
    return Size(**result["input_size"]).area, result["box_ap"] + result["box_recall"]
