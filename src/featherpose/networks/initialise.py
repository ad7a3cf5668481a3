"""Weights before the first step."""

from __future__ import annotations

import math

from torch import nn

from featherpose.networks.attention import ChannelGate

# A channel gate reads pooled ReLU outputs, which are all positive, so that a hidden unit would get the same sign for
# every picture: of two units both would be dead from the start in one network out of four.
HIDDEN_BIAS = 0.1


def initialise(model: nn.Module) -> None:
    """Any network in; its weights are drawn anew in place.

    Convolutions: normal, deviation sqrt(2 / fan_out) with the fan of their own group (He et al. 2015). Convolutions
    and linear layers with a bias (gates, last layer) have no norm behind them: deviation 0.01 and bias 0, so that
    gates start near 0.5 and heatmaps near 0. Norms: weight 1, bias 0. The published Lite-HRNet draws all
    convolutions with deviation 0.001, which the norms behind them make up for; Adam's first steps are then larger
    than the weights.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _draw(module)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    for module in model.modules():
        if isinstance(module, ChannelGate):
            nn.init.constant_(module.reduce.bias, HIDDEN_BIAS)


def _draw(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        return
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel() / groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
