"""Save and load weights: our .safetensors files, .pth files of mmpose and of the networks' official repositories.

Lite-HRNet's checkpoints have our names below `state_dict`. Others use different prefixes for the backbone and the head
(`FOREIGN`); data-parallel training adds the prefix `module.`. ImageNet checkpoints fill the backbone (`imagenet`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from featherpose import files
from featherpose.errors import ModelError
from featherpose.keypoint_names import standard_names
from featherpose.manifest import Manifest
from featherpose.networks.imagenet import backbone_names

Weights = Mapping[str, Tensor]
# mmpose 1.x uses the prefix `head.`, TokenPose the others; the official HRNet and SimpleBaseline use none.
FOREIGN = ("head.", "pre_feature.", "transformer.", "features.")
VERSION = 2
"""Of the metadata that `featherpose train` writes into a weights file."""
FACTS = (
    *("kind", "network", "options", "skeleton", "input_size", "padding", "codec", "long_side", "conf"),
    *("recipe", "training", "results"),
)
"""Keys of that metadata: fields of the manifest, and `results`, the validation result of these weights."""
MAX_NAMES_SHOWN = 3  # names of each kind listed in an error message
UNSAFE_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in the error of PyTorch's restricted unpickler about anything but tensors


def load_weights(model: nn.Module, source: str | os.PathLike[str] | Mapping[str, object]) -> None:
    """Load a file (.safetensors, .pth) or a state dict into the network, in place.

    All names and shapes must match; otherwise ModelError is raised and the network is unchanged. Only
    `num_batches_tracked` may be missing, as it is in old files.
    """
    own = model.state_dict()
    name, weights = _read(source, own)
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    weights = counters | weights
    problems = _differences(own, weights)
    if problems:
        raise ModelError(f"The weights of {name} do not fit this network: {'; '.join(problems)}.")
    model.load_state_dict(weights)


@dataclass(frozen=True)
class PretrainedReport:
    """Names of the network's tensors that were loaded, of those that keep their initialization (`fresh`), and of the
    file's tensors that the network does not have, such as a classifier (`ignored`)."""

    loaded: list[str]
    fresh: list[str]
    ignored: list[str]


def load_pretrained(model: nn.Module, path: str | os.PathLike[str], keypoint_names: Sequence[str]) -> PretrainedReport:
    """Load all tensors of a weights file that fit a network for `keypoint_names`, in place.

    Rows of the last layer are matched by keypoint name, also between different skeletons. An ImageNet checkpoint
    fills the backbone. ModelError if fewer than half of the network's tensors fit: the file is of another network.
    """
    own = model.state_dict()
    _, given = _read(path, own)
    theirs = list(read_facts(path).get("skeleton", {}).get("keypoint_names", []))
    if theirs and theirs != list(keypoint_names):
        # In one spelling, so that names of two conventions match ("LHip" and "left_hip").
        their_names = standard_names(theirs)
        our_names = standard_names(keypoint_names)
        for name in given:
            if "final_layer" in name and name in own:
                given[name] = _by_keypoint(given[name], own[name], their_names, our_names)
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if len(fitting) < len(own) / 2:
        problems = _differences(own, given)
        raise ModelError(f"The weights of {path} belong to another network: {'; '.join(problems)}.")
    model.load_state_dict({**own, **fitting})
    fresh = [name for name in own if name not in fitting]
    ignored = [name for name in given if name not in fitting]
    return PretrainedReport(list(fitting), fresh, ignored)


def _by_keypoint(tensor: Tensor, own: Tensor, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    """A tensor with one row per keypoint of theirs -> one row per keypoint of ours; new ones are rows of `own`."""
    if tensor.shape[1:] != own.shape[1:]:
        return tensor
    rows = own.clone()
    for row, keypoint in enumerate(ours):
        if keypoint in theirs:
            rows[row] = tensor[theirs.index(keypoint)]
    return rows


def save_weights(model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's state dict and metadata to a .safetensors file, atomically: complete or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    files.replace(Path(path), safetensors.torch.save(tensors, metadata=dict(metadata or {})))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Path of a .safetensors file -> the metadata that `save_weights` stored with the tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(Path(path), error) from error


def to_metadata(manifest: Manifest, results: Mapping[str, Any]) -> dict[str, str]:
    """Manifest of a model and the validation result of its weights -> metadata of the weights file, as JSON by key."""
    described = json.loads(manifest.to_json())
    facts = {key: described[key] for key in FACTS if key in described}
    return {key: json.dumps(value) for key, value in {"version": VERSION, **facts, "results": results}.items()}


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Weights file -> the metadata that `featherpose train` stored (keys FACTS); {} for files of other tools."""
    metadata = read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if "network" in metadata and metadata.get("version") != str(VERSION):
        raise ModelError(
            f"{path}: the metadata is of version {metadata.get('version', '1')}, this featherpose reads version"
            f" {VERSION}; train again, or use the featherpose release that wrote the file."
        )
    try:
        return {key: json.loads(metadata[key]) for key in FACTS if key in metadata}
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: metadata is not JSON ({error}); was it written by `featherpose train`?") from None


def _read(source: str | os.PathLike[str] | Mapping[str, object], own: Weights) -> tuple[str, dict[str, Tensor]]:
    """File or state dict, and the network's state dict -> its name for errors, and its tensors under our names."""
    name, tensors = _read_as_named(source)
    return name, {_translated_name(k, own): v for k, v in tensors.items()}


def _read_as_named(source: str | os.PathLike[str] | Mapping[str, object]) -> tuple[str, dict[str, Tensor]]:
    if isinstance(source, Mapping):
        return "the state dict", _tensors("the state dict", source)
    path = Path(source)
    try:
        content = _content(path)
    except Exception as error:  # the unpickler raises anything, even IndexError, on bytes that are no pickle
        raise _unreadable(path, error) from error
    return str(path), _tensors(str(path), content)


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    # A pickle may contain code; `weights_only` reads tensors and nothing else.
    return torch.load(path, map_location="cpu", weights_only=True)


def _unreadable(path: Path, error: Exception) -> ModelError:
    if not path.is_file():
        return ModelError(f"There is no weights file {path}; give the path of a .safetensors or .pth file.")
    if found := UNSAFE_GLOBAL.search(str(error)):
        return ModelError(
            f"{path} is refused: it contains {found[1]}, which is not a tensor and could run arbitrary code when "
            "loaded; save only the state dict, or convert the file to .safetensors where it was made."
        )
    reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return ModelError(f"{path} cannot be read as weights ({reason}); is it a complete .safetensors or .pth file?")


def _tensors(name: str, content: object) -> dict[str, Tensor]:
    """The tensors of a state dict, which may be nested below `state_dict`."""
    if not isinstance(content, Mapping):
        raise ModelError(f"{name} contains a {type(content).__name__}, not a dict of tensors.")
    entries = cast(Mapping[object, object], content)
    if "state_dict" in entries:
        return _tensors(name, entries["state_dict"])
    return {str(k).removeprefix("module."): v for k, v in entries.items() if isinstance(v, Tensor)}


def _translated_name(name: str, own: Weights) -> str:
    """Tensor name of another code base, with or without its prefix for backbone or head -> the network's name."""
    found_prefix = next((prefix for prefix in FOREIGN if name.startswith(prefix)), "")
    bare = name.removeprefix(found_prefix)
    candidates = [name, f"backbone.{bare}", f"keypoint_head.{bare}"]
    candidates += [f"backbone.{translated}" for translated in backbone_names(name)]
    return next((candidate for candidate in candidates if candidate in own), name)


def _differences(own: Weights, given: Weights) -> list[str]:
    kinds = {
        "missing": [k for k in own if k not in given],
        "unexpected": [k for k in given if k not in own],
        "with a different shape": [
            f"{k} {tuple(given[k].shape)}, wanted {tuple(own[k].shape)}"
            for k in own
            if k in given and given[k].shape != own[k].shape
        ],
    }
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    shown = "; ".join(names[:MAX_NAMES_SHOWN])
    return f"{shown}; ..." if len(names) > MAX_NAMES_SHOWN else shown
