"""The pose task: crops of labeled persons in, one heatmap per keypoint out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherpose import weights
from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Codec
from featherpose.data.datasets import find_place
from featherpose.data.terms import TEACHER
from featherpose.errors import ModelError, RecipeError
from featherpose.manifest import PoseManifest
from featherpose.networks import check_options, create_network, option_names, stride_of
from featherpose.recipes.pose import PoseRecipe, PoseStage
from featherpose.recipes.recipe import Stage
from featherpose.recipes.schedule import Epoch, full_batches
from featherpose.size import Size
from featherpose.skeleton import SKELETONS
from featherpose.training.distill import LABELS, Teacher, open_teacher
from featherpose.training.fingerprint import Fingerprint, digest_of, fingerprint
from featherpose.training.freeze import freeze
from featherpose.training.loader import load, remaining
from featherpose.training.losses import LOSSES, on_every_stage
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.task import Batch, Progress
from featherpose.training.tasks.pose_labels import read_labels
from featherpose.training.tasks.pose_training import (
    SampleDataset,
    TrainingSet,
    batch_draws,
    draw_targets,
    training_set_of,
)
from featherpose.training.tasks.pose_validation import ValidationSet, validate, validation_set_of


@dataclass(frozen=True, eq=False)
class PoseStageData:
    """Training and validation set at the input size of one stage."""

    recipe: PoseRecipe
    codec: Codec
    training_set: TrainingSet
    validation_set: ValidationSet
    broken: tuple[str, ...]
    """Samples of both sets whose image could not be decoded."""
    notes: tuple[str, ...]
    """What was done to images that were not taken as they are."""

    def batches(
        self, epochs: Sequence[Epoch], step: int, workers: int, ranks: Ranks = SINGLE_PROCESS, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Crops uint8 (B, H, W, 3), profiles and weights (`draw_targets`) of the epochs, from the run's `step` on."""
        seed = self.recipe.seed
        dataset = SampleDataset(self.training_set, self.codec, self.recipe.augmentation, seed)
        draws = remaining(epochs, step, lambda epoch: batch_draws(self.training_set, seed, epoch))
        return load(dataset, draws, workers, ranks, pin)

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks = SINGLE_PROCESS) -> dict[str, float]:
        """Network -> its scores on the validation set in percent (`pose_validation.validate`)."""
        return validate(network, self.validation_set, device, ranks)


class PoseLoss:
    """Loss between predicted and target heatmaps, and between those of a student and its teacher."""

    def __init__(self, name: str, teacher: Teacher | None = None) -> None:
        self._loss = on_every_stage(LOSSES[name])
        self._teacher = teacher

    def __call__(self, images: Tensor, heatmaps: Tensor, targets: Batch) -> Tensor:
        """Images (B, 3, H, W), heatmaps (B, K, h, w) or (S, B, K, h, w), targets (heatmaps, weights (B, K)) -> loss."""
        heatmaps = heatmaps.float()
        loss = self._loss(heatmaps, *targets)
        return self._teacher.loss(self._loss, images, heatmaps, loss) if self._teacher else loss


class PoseTask:
    """Training of a network that predicts heatmaps, by the recipe's data, codec, loss and teacher."""

    def __init__(self, recipe: PoseRecipe, device: torch.device) -> None:
        """Read the labels and open the teacher; DataError and ModelError where they do not fit the recipe."""
        check_network(recipe)  # before any file of the data set is read
        self.recipe = recipe
        self.options = network_options(recipe)
        self.labels = read_labels(recipe)
        self._loss = PoseLoss(recipe.loss, open_teacher(recipe.distill, self.labels.skeleton, device))

    @property
    def keypoint_names(self) -> Sequence[str]:
        """Names of the K keypoints that the network predicts."""
        return self.labels.skeleton.keypoint_names

    @property
    def sources(self) -> list[str]:
        """Name of the data set of each training sample."""
        return [self.labels.samples[row].source for row in self.labels.training_rows]

    @property
    def num_validation(self) -> int:
        """Samples of the validation set."""
        return len(self.labels.validation_rows)

    @property
    def num_left_out(self) -> int:
        """Annotations, or records of shards, that are not used."""
        return self.labels.num_left_out

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells these samples and labels from others."""
        labels = self.labels
        keys = (sample.key for sample in labels.samples)
        arrays = (labels.training_rows, labels.validation_rows, labels.keypoints, labels.weights, labels.boxes_xywh)
        counts = (len(labels.training_rows), len(labels.validation_rows))
        return {
            **fingerprint(*counts, keys, arrays),
            "keypoints": digest_of(labels.skeleton.keypoint_names, labels.skeleton.flip_pairs),
            "areas": digest_of(sample.area for sample in labels.samples),
        }

    @property
    def notes(self) -> Sequence[str]:
        """Remarks about the data set for the user, one sentence each."""
        return self.labels.notes

    @property
    def teachers(self) -> list[str]:
        """Where labels that no human made come from, one sentence each."""
        teacher = self.recipe.distill.teacher
        found: list[str] = []
        if self.recipe.data.labels != "ground_truth" or teacher == LABELS:
            found.append(TEACHER)
        if teacher not in ("", LABELS):
            found.append(f"{Path(teacher).name}: its heatmaps as targets")
        return found

    def steps(self, stage: Stage) -> int:
        """Number of steps of an epoch: an incomplete last batch is dropped."""
        return full_batches(self.labels.epoch_length)(stage)

    def create_network(self) -> nn.Module:
        """The network, randomly initialized."""
        return create_network(self.recipe.network, len(self.keypoint_names), **self.options)

    def prepare(self, stage: Stage, progress: Progress | None = None, *, rebuild_cache: bool = False) -> PoseStageData:
        """Training and validation set of a stage; the first time, images are decoded into the cache."""
        assert isinstance(stage, PoseStage)
        codec = codec_of(self.recipe, stage)
        training_set = training_set_of(self.labels, stage, self.recipe.padding, progress, rebuild_cache=rebuild_cache)
        validation_set = validation_set_of(self.labels, stage, codec, self.recipe)
        crops = training_set.crops
        return PoseStageData(self.recipe, codec, training_set, validation_set, crops.broken, crops.notes)

    def loss(self, images: Tensor, outputs: Any, targets: Batch) -> Tensor:
        """Images (B, 3, H, W), heatmaps (B, K, h, w) or those of several stages, profiles and weights -> loss."""
        return self._loss(images, outputs, draw_targets(targets, self.labels.label_weights))

    def is_better(self, result: dict[str, Any], other: dict[str, Any]) -> bool:
        """A larger input ranks above any score: the run is meant to end there. Without OKS accuracy, PCK decides."""
        return _rank(result) > _rank(other)

    def describe(self, stage: Stage, *, recipe: dict[str, Any], training: dict[str, Any]) -> PoseManifest:
        """Stage, and where the weights come from -> what their file and the exported file say about the model."""
        assert isinstance(stage, PoseStage)
        codec = codec_of(self.recipe, stage)
        parameters = {key: value for key, value in asdict(codec).items() if key != "size"}
        return PoseManifest(
            network=self.recipe.network,
            options=self.options,
            skeleton=self.labels.skeleton,
            input_size=stage.input_size,
            codec={"name": codec.name, **parameters},
            crop_mode=codec.crop_mode,
            padding=self.recipe.padding,
            recipe=recipe,
            training=training,
        )


def network_options(recipe: PoseRecipe) -> dict[str, Any]:
    """Recipe -> options of its network: those of the recipe and, for a network of one input size, that of the stages.

    ModelError for an unknown network or option, RecipeError where the input sizes differ.
    """
    check_options(recipe.network, recipe.options)
    if "input_size" not in option_names(recipe.network):
        return recipe.options
    size = recipe.stages[0].input_size
    others = [str(stage.input_size) for stage in recipe.stages if stage.input_size != size]
    if others:
        raise RecipeError(
            f"{recipe.network} is built for one input size, but the stages have {size} and {others[0]}; give all of "
            "them the same input_size."
        )
    given = recipe.options.get("input_size", size)
    if Size.of(given) != size:
        raise RecipeError(
            f"options.input_size is {given}, but the stages have {size}; remove it: {recipe.network} takes the size of "
            "the stages."
        )
    return {**recipe.options, "input_size": size.to_dict()}


def codec_of(recipe: PoseRecipe, stage: PoseStage) -> Codec:
    """Recipe and stage -> the codec at that input size."""
    codec_options = {"unbiased": recipe.unbiased} if recipe.codec == "msra" else {}
    return CODECS[recipe.codec](stage.input_size, stride=stride_of(recipe.network), sigma=stage.sigma, **codec_options)


def check_pose(recipe: PoseRecipe) -> int:
    """Recipe -> number of parameters of its network; raises the error that `PoseTask` would raise, if any.

    No weights are initialized and no label is read.
    """
    find_place(recipe.data.folder)
    if recipe.data.val_folder:
        find_place(recipe.data.val_folder)
    if recipe.pretrained:
        weights.find_pretrained(recipe.pretrained)
    return check_network(recipe)


def check_network(recipe: PoseRecipe) -> int:
    """Recipe -> number of parameters of its network; ModelError where it does not fit the sizes of the stages."""
    num_keypoints = SKELETONS[recipe.skeleton].num_keypoints if recipe.skeleton in SKELETONS else 17
    with torch.device("meta"):  # no weights are allocated
        network = create_network(recipe.network, num_keypoints, **network_options(recipe)).eval()
        freeze(network, recipe)
        for stage in recipe.stages:
            maps = network(torch.empty(1, 3, *stage.input_size.shape)).shape[2:]
            wanted = codec_of(recipe, stage).heatmap_size
            if tuple(maps) != wanted.shape:
                raise ModelError(
                    f"{recipe.network} outputs {maps[0]}x{maps[1]} heatmaps for input {stage.input_size};"
                    f" the codec wants {wanted}."
                )
    return sum(parameter.numel() for parameter in network.parameters())


def _rank(result: dict[str, Any]) -> tuple[int, float, float]:
    return Size(**result["input_size"]).area, result.get("oks_accuracy", 0.0), result["pck"]
