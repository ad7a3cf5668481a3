"""Export of a weights file: its metadata determines the network that is built and the manifest that is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherpose import weights as shipped
from featherpose.codecs import CODECS
from featherpose.crop import PADDING
from featherpose.errors import InputError, ModelError
from featherpose.exporting import crops as parity_crops
from featherpose.exporting.detector import export_detector
from featherpose.exporting.int8 import MAX_LOSS, export_int8
from featherpose.exporting.onnx import export
from featherpose.manifest import DetectorManifest, Manifest, PoseManifest
from featherpose.networks import create_detector, create_network, stride_of
from featherpose.networks.checkpoints import load_weights, read_facts
from featherpose.networks.feather_detect import DetectorNetwork
from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.reading import recorded
from featherpose.size import Size
from featherpose.skeleton import Skeleton, find_skeleton
from featherpose.training.tasks.detector import DetectorTask
from featherpose.training.tasks.detector_validation import validate

REQUIRED_OPTIONS = {
    "network": "--network NAME",
    "skeleton": "--skeleton NAME",
    "input_size": "--input-size HEIGHTxWIDTH",
}
VALIDATION = "validation"
"""In place of a score threshold: the one at which 90 % of the boxes are right on the validation set."""


def export_weights(
    weights: str | Path,
    out: str | Path | None = None,
    *,
    crops: str | Path | None = None,
    conf: float | str | None = None,
    int8: bool = False,
    data: str | None = None,
    max_loss: float | None = None,
    **given: Any,
) -> tuple[Path, Manifest]:
    """Weights file (.safetensors, .pth) or shipped name -> path of the .onnx file and its manifest.

    The file is written next to the weights, or, for a shipped name, into the current folder, unless `out` says where.
    `crops` is a folder of images or shards for the parity check of a pose network; `int8`, `data` and `max_loss` as in
    `export_int8`; `given` as in `open_weights`. All are refused for a detector, whose weights say everything but, if
    wanted, `conf` (`open_detector`).
    """
    path = _find(weights)
    if out is None:
        folder = path.parent if path == Path(weights) else Path()
        out = folder / f"{path.stem}{'-int8' if int8 else ''}.onnx"
    out = Path(out)
    if _kind(path) == DetectorManifest.kind:
        of_poses = {"crops": crops, "int8": int8, "data": data, "max_loss": max_loss, **given}
        useless = [name for name, value in of_poses.items() if value]
        if useless:
            raise InputError(f"{weights} is a person detector, exported without {', '.join(useless)}; leave it out.")
        detector, description = open_detector(path, conf)
        return out, export_detector(detector, out, description)
    if conf is not None:
        raise InputError(f"{weights} is a pose network, which has no conf; leave it out.")
    for name, value in (("data", data), ("max_loss", max_loss)):
        if value is not None and not int8:
            raise InputError(f"{name} is used by int8 alone; leave it out.")
    model, manifest = open_weights(path, **given)
    image_crops = parity_crops.image_crops(manifest, None if crops is None else Path(crops))
    if int8:
        allowed = MAX_LOSS if max_loss is None else max_loss
        return out, export_int8(model, out, manifest, crops=image_crops, data=data, max_loss=allowed)
    return out, export(model, out, manifest, crops=image_crops)


def _find(weights: str | Path) -> Path:
    """Path of a weights file, or shipped name -> path; a name has no suffix."""
    path = Path(weights)
    return path if path.suffix or path.exists() else shipped.find(str(weights), ".safetensors")


def open_detector(path: str | Path, conf: float | str | None = None) -> tuple[DetectorNetwork, DetectorManifest]:
    """Weights file of a person detector -> the network with these weights, in eval mode, and its manifest.

    `conf` is the score threshold in the manifest: a number, `VALIDATION` to compute it now on the validation set of the
    weights' recipe, or None for the one in their validation result.
    """
    facts = read_facts(path)
    if isinstance(conf, str) and conf != VALIDATION:
        raise InputError(f"conf is {conf!r}, wanted a score from 0 to 1, or {VALIDATION!r}.")
    manifest = DetectorManifest(
        network=facts["network"],
        options=facts["options"],
        skeleton=Skeleton.from_dict(facts["skeleton"]),
        long_side=facts["long_side"],
        conf=conf if isinstance(conf, int | float) else facts.get("results", {}).get("conf", facts["conf"]),
        recipe=facts.get("recipe", {}),
        training=facts.get("training", {}),
        accuracy=_accuracy(facts),
    )
    network = create_detector(manifest.network, len(facts["skeleton"]["keypoint_names"]), **manifest.options)
    assert isinstance(network, DetectorNetwork)
    load_weights(network, path)
    network.eval()
    if conf == VALIDATION:
        manifest = replace(manifest, conf=_conf_in_validation(network, facts, path))
    return network, manifest


def _conf_in_validation(network: DetectorNetwork, facts: Mapping[str, Any], path: str | Path) -> float:
    """Detector and the metadata of its weights -> score threshold at which 90 % of its boxes are right on the
    validation set of its recipe."""
    recipe = recorded(facts.get("recipe", {}))
    if not isinstance(recipe, DetectorRecipe):
        raise ModelError(f"{path} does not record its recipe, so its validation set is unknown; give conf as a number.")
    validation_set = DetectorTask(recipe).validation_set(facts["long_side"])
    return validate(network, validation_set, torch.device("cpu"))["conf"]


def _kind(path: Path) -> str:
    """Weights file -> the kind of its model; "pose" where nothing is recorded."""
    return read_facts(path).get("kind", PoseManifest.kind) if path.is_file() else PoseManifest.kind


def _accuracy(facts: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Metadata of weights -> the validation result, as the first measurement of the manifest."""
    results = facts.get("results")
    return ({"data": "validation set of the training data", **results},) if results else ()


def open_weights(
    path: str | Path,
    *,
    network: str | None = None,
    options: Mapping[str, Any] | None = None,
    skeleton: str | None = None,
    input_size: Size | None = None,
) -> tuple[nn.Module, PoseManifest]:
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
    loaded = load_weights(model, path)
    if not manifest.training:  # a file of another project, which says nothing about its training
        manifest = replace(manifest, training={"weights": f"{path.name}: {loaded.describe()}"})
    return model.eval(), manifest


def _manifest(facts: dict[str, Any]) -> PoseManifest:
    # A file without metadata comes from another project; most decode as HRNet does.
    codec: dict[str, Any] = facts.get("codec") or {"name": "msra", "stride": stride_of(facts["network"])}
    # For an unknown codec, the manifest itself raises the error.
    crop_mode = CODECS[codec["name"]].crop_mode if codec.get("name") in CODECS else PoseManifest.crop_mode
    return PoseManifest(
        network=facts["network"],
        options=facts["options"],
        skeleton=_skeleton(facts["skeleton"]),
        input_size=Size.of(facts["input_size"]),
        codec=codec,
        crop_mode=crop_mode,
        padding=facts.get("padding", PADDING),
        recipe=facts.get("recipe", {}),
        training=facts.get("training", {}),
        accuracy=_accuracy(facts),
    )


def _skeleton(value: str | dict[str, Any]) -> Skeleton:
    return Skeleton.from_dict(value) if isinstance(value, dict) else find_skeleton(value)


def _create(manifest: PoseManifest) -> nn.Module:
    try:
        return create_network(manifest.network, manifest.skeleton.num_keypoints, **manifest.options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{manifest.network} cannot be built with {manifest.options} ({error}).") from None
