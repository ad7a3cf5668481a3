"""featherpose: lightweight human pose estimation.

Importing it loads numpy only; everything else is imported on first use.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from featherpose.errors import FeatherposeError
from featherpose.poses import Poses
from featherpose.skeleton import COCO17, LSP14, MPII16, Skeleton

if TYPE_CHECKING:
    from featherpose.api import (
        adopt,
        estimate,
        estimate_all,
        evaluate,
        export,
        list_models,
        list_networks,
        predict,
        stream,
        train,
    )
    from featherpose.networks import create_network
    from featherpose.networks.checkpoints import load_weights
    from featherpose.runtime.estimator import Estimator

_LAZY = {
    "adopt": "featherpose.api",
    "estimate": "featherpose.api",
    "estimate_all": "featherpose.api",
    "evaluate": "featherpose.api",
    "export": "featherpose.api",
    "list_models": "featherpose.api",
    "list_networks": "featherpose.api",
    "predict": "featherpose.api",
    "stream": "featherpose.api",
    "train": "featherpose.api",
    "Estimator": "featherpose.runtime.estimator",
    "create_network": "featherpose.networks",
    "load_weights": "featherpose.networks.checkpoints",
}
__all__ = [
    "COCO17",
    "LSP14",
    "MPII16",
    "Estimator",
    "FeatherposeError",
    "Poses",
    "Skeleton",
    "adopt",
    "create_network",
    "estimate",
    "estimate_all",
    "evaluate",
    "export",
    "list_models",
    "list_networks",
    "load_weights",
    "predict",
    "stream",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("featherpose")
    if name not in _LAZY:
        raise AttributeError(f"module 'featherpose' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
