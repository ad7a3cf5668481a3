"""featherpose: lightweight human pose estimation.

Importing it loads numpy only; everything else is imported on first use. The functions for training and exporting are
`featherpose.api.train` and `featherpose.api.export`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from featherpose.errors import FeatherposeError
from featherpose.poses import Poses
from featherpose.skeleton import COCO17, LSP14, MPII16, Skeleton

if TYPE_CHECKING:
    from featherpose.api import estimate, evaluate, list_models, list_networks, predict
    from featherpose.networks import create_network
    from featherpose.networks.checkpoints import load_weights
    from featherpose.runtime.estimator import Estimator

_LAZY = {
    "estimate": "featherpose.api",
    "evaluate": "featherpose.api",
    "list_models": "featherpose.api",
    "list_networks": "featherpose.api",
    "predict": "featherpose.api",
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
    "create_network",
    "estimate",
    "evaluate",
    "list_models",
    "list_networks",
    "load_weights",
    "predict",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'featherpose' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
