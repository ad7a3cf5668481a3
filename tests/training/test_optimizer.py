"""Which weights decay, and which have a lower learning rate."""

from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from featherpose.errors import RecipeError
from featherpose.recipes.recipe import Optimizer
from featherpose.training.loop import make_optimizer

pytestmark = pytest.mark.torch


def small() -> nn.Module:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Conv2d(4, 2, 1)))


def groups(network: nn.Module, settings: Optimizer) -> dict[str, tuple[float, float]]:
    """Name of each weight -> its weight decay and its learning rate as a fraction of the run's."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = [
        (names[weight], (group["weight_decay"], group["lr_ratio"]))
        for group in make_optimizer(network, settings).param_groups
        for weight in group["params"]
    ]
    assert len(found) == len(names), "each weight is in one group"
    return dict(found)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_kernels_decay(name: str) -> None:
    assert groups(small(), Optimizer(name=name, weight_decay=0.1)) == {
        "backbone.0.weight": (0.1, 1),
        "backbone.0.bias": (0, 1),
        "backbone.1.weight": (0, 1),
        "backbone.1.bias": (0, 1),
        "head.weight": (0.1, 1),
        "head.bias": (0, 1),
    }


def test_backbone_learns_at_its_own_rate() -> None:
    found = groups(small(), Optimizer(backbone_lr_ratio=0.3))
    assert {name: ratio for name, (_, ratio) in found.items() if ratio != 1} == {
        "backbone.0.weight": 0.3,
        "backbone.0.bias": 0.3,
        "backbone.1.weight": 0.3,
        "backbone.1.bias": 0.3,
    }


def test_network_without_a_backbone_is_refused() -> None:
    with pytest.raises(RecipeError, match="this network has no backbone"):
        make_optimizer(nn.Conv2d(3, 4, 3), Optimizer(backbone_lr_ratio=0.3))
