"""The state of a run: everything that resuming needs beside the recipe and the data, in one file.

The file is written under a temporary name, then renamed: a run that is killed leaves the previous state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from featherpose import files
from featherpose.errors import ModelError
from featherpose.recipes.schedule import Epoch
from featherpose.training.fingerprint import Fingerprint, check_same_data


@dataclass
class RunState:
    """Network, EMA network and optimizer, the steps done, the seconds spent and the validation results so far."""

    network: nn.Module
    ema_network: nn.Module
    optimizer: Optimizer
    data: Fingerprint
    """Of the data set that the run trains on."""
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Validation results in the order of the epochs, each with `step`, `epoch`, `input_size`, `hours` and scores."""
    best: dict[str, Any] = field(default_factory=dict[str, Any])
    """The validation result of the best weights so far; empty before the first."""

    def has_finished(self, epoch: Epoch) -> bool:
        """Whether all steps of the epoch are done, and its validation if it ends with one."""
        is_validated = any(result["epoch"] == epoch.number for result in self.history)
        return self.step >= epoch.last and (is_validated or not epoch.ends_with_validation)

    def save(self, path: Path) -> None:
        """Write the state to one safetensors file."""
        tensors = {
            **{f"model.{name}": tensor for name, tensor in self.network.state_dict().items()},
            **{f"average.{name}": tensor for name, tensor in self.ema_network.state_dict().items()},
            **_moments(self.optimizer),
        }
        cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        facts = {
            "data": self.data,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "best": self.best,
        }
        files.replace(path, safetensors.torch.save(cpu_tensors, metadata={"facts": json.dumps(facts)}))

    def restore(self, path: Path, *, accept_changed_data: bool = False) -> None:
        """Load a file of `save` into the networks, the optimizer and the fields.

        ModelError if the file cannot be read or does not fit them, DataError if the data set has changed since.
        """
        try:
            with files.utf8_path(path) as readable:
                tensors = safetensors.torch.load_file(readable)
                with safetensors.safe_open(readable, framework="pt") as file:
                    facts = json.loads(file.metadata()["facts"])
            if not accept_changed_data:
                check_same_data(facts.get("data", {}), self.data)
            self.network.load_state_dict(_with_prefix(tensors, "model."))
            self.ema_network.load_state_dict(_with_prefix(tensors, "average."))
            _restore_moments(self.optimizer, _with_prefix(tensors, "optimizer."))
            self.step = facts["step"]
            self.seconds = facts["seconds"]
            self.history = facts["history"]
            self.best = facts["best"]
        except (OSError, safetensors.SafetensorError, RuntimeError, KeyError, TypeError) as error:
            reason = str(error).split("\n", 1)[0]
            raise ModelError(
                f"{path}: cannot resume from it ({reason}); start a new run with another --out."
            ) from error


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """State tensors of the optimizer, named optimizer.INDEX.NAME."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def _restore_moments(optimizer: Optimizer, moments: dict[str, Tensor]) -> None:
    """Load the moments in the memory layout of their weights: a fused step reads both in memory order."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        index, key = name.split(".")
        weight = weights[int(index)]
        restored = torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor
        state.setdefault(int(index), {})[key] = restored
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
