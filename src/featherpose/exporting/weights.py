"""Export of a weights file: its metadata determines the network that is built and the manifest that is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from featherpose.codecs import CODECS
from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.exporting import crops as parity_crops
from featherpose.exporting.onnx import export
from featherpose.manifest import Manifest
from featherpose.networks import create_network, stride_of
from featherpose.networks.checkpoints import load_weights, read_facts
from featherpose.size import Size
from featherpose.skeleton import SKELETONS, Skeleton

REQUIRED_OPTIONS = {
    "network": "--network NAME",
    "skeleton": "--skeleton NAME",
    "input_size": "--input-size HEIGHTxWIDTH",
}


def export_weights(
    weights: str | Path, out: str | Path | None = None, *, crops: str | Path | None = None, **given: Any
) -> tuple[Path, Manifest]:
    """Weights file (.safetensors, .pth) -> path of the .onnx file (default: next to the weights) and its manifest.

    `crops` is a folder of images or shards for the parity check; `given` as in `open_weights`.
    """
    model, manifest = open_weights(weights, **given)
    out = Path(weights).with_suffix(".onnx") if out is None else Path(out)
    image_crops = parity_crops.image_crops(manifest, None if crops is None else Path(crops))
    return out, export(model, out, manifest, crops=image_crops)


def open_weights(
    path: str | Path,
    *,
    network: str | None = None,
    options: Mapping[str, Any] | None = None,
    skeleton: str | None = None,
    input_size: Size | None = None,
) -> tuple[nn.Module, Manifest]:
    """Weights file (.safetensors, .pth) -> the network with these weights, in eval mode, and its manifest.

    Arguments override the file's metadata; a file without metadata (.pth) needs network, skeleton and input size.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no weights file {path}; `featherpose train` writes best.safetensors.")
    facts = read_facts(path)
    if network is not None:
        facts["options"] = {}  # the file's options belong to its own network
    facts["options"] = facts.get("options", {}) | dict(options or {})
    given = {"network": network, "skeleton": skeleton, "input_size": input_size}
    facts |= {key: value for key, value in given.items() if value is not None}
    missing = [flag for key, flag in REQUIRED_OPTIONS.items() if key not in facts]
    if missing:
        raise ModelError(f"{path} lacks metadata of its network; add {' '.join(missing)}.")
    manifest = _manifest(facts)
    model = _create(manifest)
    load_weights(model, path)
    return model.eval(), manifest


def _manifest(facts: dict[str, Any]) -> Manifest:
    results = facts.get("results")
    # A file without metadata comes from another project; most decode as HRNet does.
    codec: dict[str, Any] = facts.get("codec") or {"name": "msra", "stride": stride_of(facts["network"])}
    # For an unknown codec, the manifest itself raises the error.
    crop_mode = CODECS[codec["name"]].crop_mode if codec.get("name") in CODECS else Manifest.crop_mode
    accuracy = ({"data": "validation set of the training data", **results},) if results else ()
    return Manifest(
        network=facts["network"],
        options=facts["options"],
        skeleton=_skeleton(facts["skeleton"]),
        input_size=Size.of(facts["input_size"]),
        codec=codec,
        crop_mode=crop_mode,
        recipe=facts.get("recipe", {}),
        training=facts.get("training", {}),
        accuracy=accuracy,
    )


def _skeleton(value: str | dict[str, Any]) -> Skeleton:
    if isinstance(value, dict):
        return Skeleton.from_dict(value)
    if value.endswith((".yaml", ".yml")):
        return Skeleton.from_yaml(value)
    if value not in SKELETONS:
        raise ModelError(f"Unknown skeleton {value!r}.{did_you_mean(value, SKELETONS)} A YAML file works, too.")
    return SKELETONS[value]


def _create(manifest: Manifest) -> nn.Module:
    try:
        return create_network(manifest.network, manifest.skeleton.num_keypoints, **manifest.options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{manifest.network} cannot be built with {manifest.options} ({error}).") from None
