"""Weights to and from files: our .safetensors, and the .pth files of Lite-HRNet and mmpose.

Official checkpoints have our names below `state_dict`; mmpose 1.x says `head.` for `keypoint_head.`, parallel training
leaves `module.` in front.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from featherpose import files
from featherpose.errors import ModelError

Weights = Mapping[str, Tensor]
SHOWN = 3  # names of each kind that an error lists


def load_weights(model: nn.Module, source: str | os.PathLike[str] | Mapping[str, object]) -> None:
    """Network and a file (.safetensors, .pth) or state dict in; the network holds those weights afterwards.

    Everything has to fit, or nothing is changed. Only `num_batches_tracked` may be missing, as it is in old files.
    """
    name, weights = _read(source)
    own = model.state_dict()
    weights = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | weights
    problems = _differences(own, weights)
    if problems:
        raise ModelError(f"The weights of {name} do not fit this network: {'; '.join(problems)}.")
    model.load_state_dict(weights)


def save_weights(model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Network, path of a .safetensors file and words about it in; the file is complete or not there at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    files.replace(Path(path), safetensors.torch.save(tensors, metadata=dict(metadata or {})))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Path of a .safetensors file in, the words that `save_weights` stored with the tensors out."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(Path(path), error) from error


def _read(source: str | os.PathLike[str] | Mapping[str, object]) -> tuple[str, dict[str, Tensor]]:
    if isinstance(source, Mapping):
        return "the state dict", _tensors("the state dict", source)
    path = Path(source)
    try:
        content = _content(path)
    except Exception as error:  # bytes that are no pickle make the unpickler fail in any way, IndexError included
        raise _unreadable(path, error) from error
    return str(path), _tensors(str(path), content)


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unreadable(path: Path, error: Exception) -> ModelError:
    if not path.is_file():
        return ModelError(f"There is no weights file {path}; give the path of a .safetensors or .pth file.")
    reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return ModelError(f"{path} cannot be read as weights ({reason}); is it complete, a .safetensors or .pth file?")


def _tensors(name: str, content: object) -> dict[str, Tensor]:
    """The tensors of a state dict under our names, out of whatever it is nested in."""
    if not isinstance(content, Mapping):
        raise ModelError(f"{name} holds a {type(content).__name__}, not a dict of tensors.")
    entries = cast(Mapping[object, object], content)
    if "state_dict" in entries:
        return _tensors(name, entries["state_dict"])
    return {_own_name(str(k)): v for k, v in entries.items() if isinstance(v, Tensor)}


def _own_name(name: str) -> str:
    name = name.removeprefix("module.")
    return f"keypoint_{name}" if name.startswith("head.") else name


def _differences(own: Weights, given: Weights) -> list[str]:
    kinds = {
        "missing": [k for k in own if k not in given],
        "unexpected": [k for k in given if k not in own],
        "of another shape": [
            f"{k} {tuple(given[k].shape)}, wanted {tuple(own[k].shape)}"
            for k in own
            if k in given and given[k].shape != own[k].shape
        ],
    }
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    return "; ".join(names[:SHOWN]) + ("; ..." if len(names) > SHOWN else "")
