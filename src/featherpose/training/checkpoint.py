"""The state of a run in one safetensors file, written atomically: under a temporary name, then renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from featherpose import files
from featherpose.errors import ModelError


def save(path: Path, model: nn.Module, ema_network: nn.Module, optimizer: Optimizer, facts: dict[str, Any]) -> None:
    """Network, EMA network, optimizer and plain values (step, best result, ...) -> one file."""
    tensors = {
        **{f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"average.{name}": tensor for name, tensor in ema_network.state_dict().items()},
        **_moments(optimizer),
    }
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.replace(path, safetensors.torch.save(cpu_tensors, metadata={"facts": json.dumps(facts)}))


def restore(path: Path, model: nn.Module, ema_network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """File of `save` -> its plain values; loads the networks and the optimizer.

    ModelError if the file cannot be read or does not fit them.
    """
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
        model.load_state_dict(_with_prefix(tensors, "model."))
        ema_network.load_state_dict(_with_prefix(tensors, "average."))
        _restore_moments(optimizer, _with_prefix(tensors, "optimizer."))
    except (OSError, safetensors.SafetensorError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ModelError(f"{path}: cannot resume from it ({reason}); start a new run with another --out.") from error
    return facts


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
