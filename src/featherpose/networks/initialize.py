"""Weight initialization."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from torch import nn

from featherpose.networks.attention import OPEN_SCALE, ChannelGate, CoordinateGate, SpatialGate

# A channel gate reads pooled ReLU outputs, which are all positive, so a hidden unit has the same sign for every image.
# Without a positive bias, both units of a gate with two would be dead from the start in one network out of four.
HIDDEN_BIAS = 0.1


@runtime_checkable
class InitializesItself(Protocol):
    """A module whose published code has its own weight initialization."""

    def init_weights(self) -> None:
        """Initialize all weights of this module and its submodules, in place."""
        ...


def initialize(model: nn.Module) -> None:
    """Initialize all weights of a network, in place.

    Convolutions: normal, standard deviation sqrt(2 / fan_out) with the fan of one group (He et al. 2015). Convolutions
    and linear layers with a bias (gates, last layer) are not followed by a norm: standard deviation 0.01 and bias 0,
    so that gates start near 0.5 (open gates at exactly 1) and heatmaps near 0. Norms: weight 1, bias 0. The published
    Lite-HRNet initializes all convolutions with standard deviation 0.001, which the following norms compensate; Adam's
    first steps are then larger than the weights. Modules of published networks initialize themselves as their code
    does (`InitializesItself`).
    """
    if isinstance(model, InitializesItself):
        model.init_weights()
        return
    if isinstance(model, nn.Conv2d | nn.Linear):
        _init_layer(model)
    elif isinstance(model, nn.BatchNorm2d):
        model.reset_parameters()
    for part in model.children():
        initialize(part)
    if isinstance(model, ChannelGate):
        nn.init.constant_(model.reduce.bias, HIDDEN_BIAS)
    if isinstance(model, ChannelGate | SpatialGate | CoordinateGate) and model.scale == OPEN_SCALE:
        for last in model.last_layers():
            nn.init.zeros_(last.weight)


def init_normal(module: nn.Module, std: float = 0.001) -> None:
    """Initialize all convolutions of a module from a normal distribution, biases to 0, norms to the identity.

    As in the official code of HRNet and SimpleBaseline, wherever no ImageNet weights are loaded.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def init_truncated_normal(module: nn.Module, std: float = 0.09) -> None:
    """Initialize all convolutions of a module from a normal distribution truncated at two standard deviations.

    Biases are 0, norms the identity. As in the authors' code of the MobileNets (TensorFlow's slim models).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def _init_layer(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        return
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    kernel_area = layer.weight[0, 0].numel()  # 1 for a linear layer
    fan_out = layer.weight.shape[0] * kernel_area / groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
