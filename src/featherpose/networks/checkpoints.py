"""Save and load weights: our .safetensors files, .pth files of mmpose and of the networks' official repositories.

Lite-HRNet's checkpoints have our names. Others use different prefixes for the backbone and the head (`FOREIGN`).
ImageNet checkpoints fill the backbone (`imagenet`). `state_dict` finds the tensors in a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from featherpose import files
from featherpose.errors import ModelError
from featherpose.keypoint_names import standard_names
from featherpose.manifest import Manifest
from featherpose.networks.imagenet import backbone_names
from featherpose.networks.state_dict import StateDict, find_tensors, read_state_dict, unreadable

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


def load_weights(model: nn.Module, source: str | os.PathLike[str] | Mapping[str, object]) -> StateDict:
    """Load a file (.safetensors, .pth) or a state dict into the network, in place -> what was loaded.

    All names and shapes must match; otherwise ModelError is raised and the network is unchanged. Only
    `num_batches_tracked` may be missing, as it is in old files.
    """
    own = model.state_dict()
    name, found = _read(source, own)
    weights = found.tensors
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    weights = counters | weights
    problems = _differences(own, weights)
    if problems:
        raise ModelError(f"The weights of {name} do not fit this network: {'; '.join(problems)}.")
    model.load_state_dict(weights)
    return found


@dataclass(frozen=True)
class PretrainedReport:
    """Names of the network's tensors that were loaded, of those that keep their initialization (`fresh`), and of the
    file's tensors that the network does not have, such as a classifier (`ignored`)."""

    loaded: list[str]
    fresh: list[str]
    ignored: list[str]
    found: str = ""
    """What the file contains (`StateDict.describe`)."""


def load_pretrained(model: nn.Module, path: str | os.PathLike[str], keypoint_names: Sequence[str]) -> PretrainedReport:
    """Load all tensors of a weights file that fit a network for `keypoint_names`, in place.

    Rows of the last layer are matched by keypoint name, also between different skeletons. An ImageNet checkpoint
    fills the backbone. ModelError if fewer than half of the network's tensors fit, or if the file is of a network of
    the same family with more or fewer blocks.
    """
    own = model.state_dict()
    found = _read(path, own)[1]
    given = found.tensors
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
    if block := _block_of_another_depth(own, given):
        raise ModelError(
            f"The weights of {path} are of a network of another depth: {block} is only in one of both. Choose the"
            " network that the file belongs to."
        )
    model.load_state_dict({**own, **fitting})
    fresh = [name for name in own if name not in fitting]
    ignored = [name for name in given if name not in fitting]
    return PretrainedReport(list(fitting), fresh, ignored, found.describe())


def _block_of_another_depth(own: Weights, given: Weights) -> str:
    """State dicts of two networks of one family -> the first numbered block of the backbone that one of them lacks
    where both have blocks, or ""."""
    for names, others in ((given, own), (own, given)):
        places = {".".join(parts[:n]) for parts in map(_parts, others) for n in range(1, len(parts))}
        for parts in map(_parts, names):
            missing = next((n for n in range(1, len(parts)) if ".".join(parts[:n]) not in places), 0)
            is_block = missing > 1 and parts[0] == "backbone" and parts[missing - 1].isdigit()
            # The published networks differ in which paths of the last module they keep.
            if is_block and "fuse_layers" not in parts[:missing]:
                return ".".join(parts[:missing])
    return ""


def _parts(name: str) -> list[str]:
    return name.split(".")


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
        with files.utf8_path(Path(path)) as readable, safetensors.safe_open(readable, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise unreadable(Path(path), error) from error


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


def _read(source: str | os.PathLike[str] | Mapping[str, object], own: Weights) -> tuple[str, StateDict]:
    """File or state dict, and the network's state dict -> its name for errors, and its tensors under our names."""
    if isinstance(source, Mapping):
        name = "the state dict"
        found = find_tensors(name, source)
    else:
        name = str(source)
        found = read_state_dict(Path(source))
    tensors = {_translated_name(tensor_name, own): tensor for tensor_name, tensor in found.tensors.items()}
    return name, replace(found, tensors=tensors)


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
