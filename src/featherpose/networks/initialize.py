"""Weights before the first step."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from torch import nn

from featherpose.networks.attention import ChannelGate

# A channel gate reads pooled ReLU outputs, which are all positive, so that a hidden unit would get the same sign for
# every picture: of two units both would be dead from the start in one network out of four.
HIDDEN_BIAS = 0.1


@runtime_checkable
class InitializesItself(Protocol):
    """A module whose published code draws its weights in a way of its own."""

    def init_weights(self) -> None:
        """All weights of this module and of what is in it, anew and in place."""
        ...


def initialize(model: nn.Module) -> None:
    """Any network in; its weights are drawn anew in place.

    Convolutions: normal, deviation sqrt(2 / fan_out) with the fan of their own group (He et al. 2015). Convolutions
    and linear layers with a bias (gates, last layer) have no norm behind them: deviation 0.01 and bias 0, so that
    gates start near 0.5 and heatmaps near 0. Norms: weight 1, bias 0. The published Lite-HRNet draws all
    convolutions with deviation 0.001, which the norms behind them make up for; Adam's first steps are then larger
    than the weights. Networks of others are drawn as their own code has it (`DrawsItself`).
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


def init_normal(module: nn.Module, deviation: float = 0.001) -> None:
    """Module in; all its convolutions are drawn with one deviation, biases are 0, norms start as the identity.

    So the official code of HRNet and SimpleBaseline has it, wherever no ImageNet weights are loaded.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=deviation)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def init_truncated_normal(module: nn.Module, deviation: float = 0.09) -> None:
    """Module in; its convolutions are drawn from a normal distribution cut off at two deviations, biases are 0.

    So the authors' code of the MobileNets has it (TensorFlow's slim models).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
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
    fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel() / groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
