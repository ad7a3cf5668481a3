"""The tensors of a checkpoint, whatever project wrote it.

They may be nested ("state_dict", "model", ...), prefixed by wrappers ("module.", "_orig_mod.") and accompanied by
buffers that are no weights of the network, such as copies by an EMA hook. What is left out is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from featherpose import files
from featherpose.errors import ModelError

KEYS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "generator", "params", "weights"),
    *("student", "best_state_dict", "ema_state_dict", "state_dict_ema", "ema", "model_ema"),
)
"""Where other projects keep the tensors, in the order in which they are looked for; regular weights before averages."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.", "pose_net.", "ema_model.")
"""Prefixes of data-parallel training, torch.compile, Lightning, and modules that hold a network."""
NO_NETWORK = ("optimizer", "optimizers", "optim", "scheduler", "lr_scheduler", "scaler", "loss", "teacher")
"""Keys of tensors that are of no network, or not of the one that was trained."""
BESIDE = (
    *("argparse.Namespace", "mmengine.logging.history_buffer.HistoryBuffer"),
    *("mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "omegaconf.dictconfig.DictConfig"),
    *("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath"),
    *("numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
)
"""What trainers save beside the tensors: it is passed over, so that nothing of it runs."""
NO_WEIGHTS = {
    "data_preprocessor": re.compile(r"data_preprocessor\..+"),
    "copies of an EMA hook": re.compile(r"ema_.+"),
    "counters of a profiler": re.compile(r"(.+\.)?total_(ops|params)"),
    "number of averaged models": re.compile(r"n_averaged"),
}
"""What is left out -> names of its tensors."""
SHOWN = 5
"""Keys of a file without tensors that are named."""
UNSAFE_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in the error of PyTorch's restricted unpickler about anything but tensors


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint by name, the key that they were found under, and counts of what was left out."""

    tensors: dict[str, Tensor]
    key: str = ""
    left_out: dict[str, int] = field(default_factory=dict[str, int])

    def describe(self) -> str:
        """One sentence: how many tensors, from where, without what."""
        text = f"{len(self.tensors)} tensors" + (f" of `{self.key}`" if self.key else "")
        if self.left_out:
            text += ", left out: " + ", ".join(f"{count} {what}" for what, count in self.left_out.items())
        return text


def read_state_dict(path: Path) -> StateDict:
    """Weights file (.safetensors, or a pickle by PyTorch) -> its tensors; ModelError for anything else."""
    try:
        content = _content(path)
    except Exception as error:  # the unpickler raises anything, even IndexError, on bytes that are no pickle
        raise unreadable(path, error) from error
    return find_tensors(str(path), content)


def find_tensors(name: str, content: object) -> StateDict:
    """Content of the file `name` -> its tensors, unwrapped; ModelError where there is no dict of tensors."""
    if not isinstance(content, Mapping):
        raise ModelError(f"{name} contains a {type(content).__name__}, not a dict of tensors.")
    key, tensors = _nested(cast(Mapping[object, object], content))
    if not tensors:
        keys = ", ".join(map(str, list(content)[:SHOWN])) or "none"
        raise ModelError(f"{name} contains no tensors by name; its keys are {keys}. Wanted a state dict.")
    unwrapped = {_without_wrappers(tensor_name): tensor for tensor_name, tensor in tensors.items()}
    reasons = {tensor_name: _no_weight(tensor_name) for tensor_name in unwrapped}
    kept = {tensor_name: tensor for tensor_name, tensor in unwrapped.items() if not reasons[tensor_name]}
    return StateDict(kept, key, dict(Counter(reason for reason in reasons.values() if reason)))


def unreadable(path: Path, error: Exception) -> ModelError:
    """Path of a weights file and what reading it raised -> the error to raise, with what the file is."""
    if not path.is_file():
        return ModelError(f"There is no weights file {path}; give the path of a .safetensors or .pth file.")
    if mistaken := files.mistaken_for(path):
        return ModelError(f"{path} cannot be read as weights: it is {mistaken}.")
    if found := UNSAFE_GLOBAL.search(str(error)):
        return ModelError(
            f"{path} is refused: it contains {found[1]}, which is not a tensor and could run arbitrary code when "
            "loaded; save only the state dict, or convert the file to .safetensors where it was made."
        )
    if "TorchScript" in str(error):
        return ModelError(f"{path} is a TorchScript archive; save its tensors: torch.jit.load(FILE).state_dict()")
    reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
    if not isinstance(error, OSError | safetensors.SafetensorError | RuntimeError):
        reason = "torch.save did not write it"
    return ModelError(f"{path} cannot be read as weights ({reason}); is it a complete .safetensors or .pth file?")


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        with files.utf8_path(path) as readable:
            return safetensors.torch.load_file(readable)
    # A pickle may contain code; `weights_only` reads tensors and, here, numpy's numbers, such as a score.
    with torch.serialization.safe_globals([*_numpy_numbers(), *((_Beside, name) for name in BESIDE)]):
        return torch.load(path, map_location="cpu", weights_only=True)


class _Beside:
    """Stands for an object of `BESIDE`, whatever it is made of."""

    def __new__(cls, *_: object) -> _Beside:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _numpy_numbers() -> Iterator[Any]:
    """What a pickled numpy number consists of, under its names in numpy 1 and 2."""
    scalar = np._core.multiarray.scalar  # pyright: ignore
    yield scalar
    yield scalar, "numpy.core.multiarray.scalar"
    yield np.dtype
    yield from {type(np.dtype(code)) for code in "?bBhHiIlLqQefdUSO"}


def _nested(content: Mapping[object, object]) -> tuple[str, dict[str, Tensor]]:
    """Content of a checkpoint -> the key ("" for the top level) that holds its tensors, and these by name."""
    for key in KEYS:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            inner_key, tensors = _nested(cast(Mapping[object, object], inner))
            if tensors:
                return f"{key}.{inner_key}".rstrip("."), tensors
    here = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return ("", here) if here else _anywhere(content)


def _anywhere(content: Mapping[object, object]) -> tuple[str, dict[str, Tensor]]:
    """Content without tensors under a usual key -> as `_nested`: the largest dict of tensors under any other."""
    best_key = ""
    best: dict[str, Tensor] = {}
    for key, inner in content.items():
        if isinstance(inner, Mapping) and str(key) not in NO_NETWORK:
            inner_key, tensors = _nested(cast(Mapping[object, object], inner))
            if len(tensors) > len(best):
                best_key = f"{key}.{inner_key}".rstrip(".")
                best = tensors
    return best_key, best


def _without_wrappers(name: str) -> str:
    while prefix := next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), ""):
        name = name.removeprefix(prefix)
    return name


def _no_weight(name: str) -> str:
    """Name of a tensor -> what it is if no weight of the network, or ""."""
    return next((what for what, pattern in NO_WEIGHTS.items() if pattern.fullmatch(name)), "")
