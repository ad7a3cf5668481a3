"""What the training loop asks of a task, such as pose estimation or person detection."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from featherpose.manifest import Manifest
from featherpose.recipes.recipe import Recipe, Stage
from featherpose.recipes.schedule import Epoch
from featherpose.training.fingerprint import Fingerprint
from featherpose.training.ranks import Ranks

Batch = tuple[Tensor, ...]
"""Images uint8 (B, H, W, 3), then the targets of the task, each (B, ...)."""
Progress = Callable[[int, int], None]
"""Called with the number of images decoded and of all images."""


class StageData(Protocol):
    """Training and validation set at the input size of one stage."""

    @property
    def broken(self) -> Sequence[str]:
        """One message for each sample of both sets that is left out because its image cannot be used."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was done to images that were not taken as they are, one sentence each."""
        ...

    def batches(
        self, epochs: Sequence[Epoch], step: int, workers: int, ranks: Ranks, pin: bool
    ) -> Generator[Batch, None, None]:
        """The batches of the epochs from the run's `step` on; with several processes, this process's share of each.

        `pin` puts them into pinned memory for a GPU. Closing the generator ends the workers.
        """
        ...

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks) -> dict[str, float]:
        """Network -> its scores on the validation set, by name; with several processes, all get them."""
        ...


class Task(Protocol):
    """A task: its data, its network, its loss and the order of its validation results."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def keypoint_names(self) -> Sequence[str]:
        """Names of the K keypoints that the network predicts."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """Name of the data set of each training sample."""
        ...

    @property
    def num_validation(self) -> int:
        """Samples of the validation set."""
        ...

    @property
    def num_left_out(self) -> int:
        """Records of the data set that are not used."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells these samples and labels from others."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Remarks about the data set for the user, one sentence each."""
        ...

    @property
    def teachers(self) -> Sequence[str]:
        """Where labels that no human made come from, one sentence each."""
        ...

    def steps(self, stage: Stage) -> int:
        """Number of steps of an epoch of this stage."""
        ...

    def create_network(self) -> nn.Module:
        """The network, randomly initialized."""
        ...

    def prepare(self, stage: Stage, progress: Progress | None = None, *, rebuild_cache: bool = False) -> StageData:
        """Training and validation set of a stage; the first time, images are decoded into the cache."""
        ...

    def loss(self, images: Tensor, outputs: Any, targets: Batch) -> Tensor:
        """Normalized images (B, 3, H, W), the network's outputs and the targets -> the loss, a scalar."""
        ...

    def is_better(self, result: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether the weights of the first validation result are to be kept rather than those of the other."""
        ...

    def describe(self, stage: Stage, *, recipe: dict[str, Any], training: dict[str, Any]) -> Manifest:
        """Stage, and where the weights come from -> what their file and the exported file say about the model."""
        ...
