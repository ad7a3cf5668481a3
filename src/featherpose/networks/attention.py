"""Attention blocks: CBAM, squeeze-and-excitation, coordinate attention.

Each block is split into the two parts that `attention_heads.ConcatHead` applies separately: `channel`, which commutes
with nearest upsampling, and `spatial`, a gate per pixel, computed at the resolution at which it is applied.

A gate is `scale` x sigmoid, 1 x as published. Gates of 2 x sigmoid whose last layer starts at zero are exactly 1 at the
start: the block then changes nothing, and a gate can amplify as well as suppress (`create_attention`, `open_gates`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks.layers import upsample_nearest

OPEN_SCALE = 2.0
"""Of gates that start at 1, since the sigmoid of 0 is 0.5."""


class ChannelGate(nn.Module):
    """Channel attention of CBAM: (N, C, H, W) -> gated (N, C, H, W).

    sigmoid(MLP(average pool) + MLP(maximum pool)), one MLP with biases and C / 16 hidden units for both
    (Woo et al. 2018, section 3.1). `factor` is not needed: upsampling does not change pooled values. With `norm`, the
    gate is computed from batch-normalized maps.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        pools: tuple[str, ...] = ("average", "maximum"),
        scale: float = 1.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.BatchNorm2d(channels, affine=False) if norm else nn.Identity()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.use_maximum = "maximum" in pools

    def last_layers(self) -> list[nn.Linear]:
        """The gate is scale x sigmoid(0) everywhere if their weights and biases are zero."""
        return [self.expand]

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        del factor
        return x * self.gate(x)[:, :, None, None]  # (N, C, H, W)

    def gate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the gates (N, C)."""
        x = self.norm(x)
        hidden = self.reduce(x.mean((2, 3))).relu()  # (N, C/16)
        if self.use_maximum:
            hidden_of_maximum = self.reduce(x.amax((2, 3))).relu()  # (N, C/16)
            hidden = torch.stack((hidden, hidden_of_maximum))  # (2, N, C/16)
        gate = self.expand(hidden)  # (N, C), or (2, N, C) with both pools
        if self.use_maximum:
            gate = gate.sum(0)  # (N, C)
        return self.scale * gate.sigmoid()


class SpatialGate(nn.Module):
    """Spatial attention of CBAM: (N, C, H, W) -> gate (N, 1, H * factor, W * factor).

    sigmoid(batch norm(7x7 convolution without bias over [channel maximum, channel mean])), in the order and with
    the norm (momentum 0.01) of the official code. The two maps are upsampled before the convolution, which
    equals upsampling x: maximum and mean over channels commute with nearest upsampling.
    """

    def __init__(self, kernel: int = 7, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def last_layers(self) -> list[nn.BatchNorm2d]:
        """As in `ChannelGate`."""
        return [self.bn]

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        maximum = x.amax(1, keepdim=True)  # (N, 1, H, W)
        mean = x.mean(1, keepdim=True)  # (N, 1, H, W)
        pooled = torch.cat((maximum, mean), 1)  # (N, 2, H, W)
        pooled = upsample_nearest(pooled, factor)  # (N, 2, H * factor, W * factor)
        return self.scale * self.bn(self.conv(pooled)).sigmoid()  # (N, 1, H * factor, W * factor)


class CoordinateGate(nn.Module):
    """Coordinate attention: (N, C, H, W) -> gated (N, C, H, W) (Hou et al. 2021, section 3.2).

    Row and column means pass a shared 1x1 convolution to max(8, C / 32) channels, batch norm and hard swish, then
    a 1x1 convolution and a sigmoid each. With `factor`, batch norm counts every value as often as it would
    occur in the upsampled map, so that its running variance (n / (n - 1)) matches the upsampled map.
    """

    def __init__(self, channels: int, reduction: int = 32, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        hidden = max(8, channels // reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def last_layers(self) -> list[nn.Conv2d]:
        """As in `ChannelGate`."""
        return [self.rows, self.columns]

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        height, width = x.shape[-2:]
        row_means = x.mean(3, keepdim=True)  # (N, C, H, 1)
        column_means = x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, W, 1)
        profile = torch.cat((row_means, column_means), 2)  # (N, C, H + W, 1)
        # Repeated for the statistics of the norm alone; afterwards every value is kept once.
        hidden = self.reduce(profile).repeat_interleave(factor, dim=2)  # (N, hidden, (H + W) * factor, 1)
        hidden = nn.functional.hardswish(self.bn(hidden)[:, :, ::factor])  # (N, hidden, H + W, 1)
        rows, columns = hidden.split((height, width), dim=2)  # (N, hidden, H, 1), (N, hidden, W, 1)
        x = x * (self.scale * self.rows(rows).sigmoid())  # gate (N, C, H, 1)
        return x * (self.scale * self.columns(columns.transpose(2, 3)).sigmoid())  # gate (N, C, 1, W)


class Unchanged(nn.Module):
    """No attention: returns x (N, C, H, W) unchanged."""

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        del factor
        return x  # (N, C, H, W)


class Attention(nn.Module):
    """An attention block: (N, C, H, W) -> gated (N, C, H, W); `spatial` reads the output of `channel`."""

    def __init__(self, channel: nn.Module, spatial: SpatialGate | None = None) -> None:
        super().__init__()
        self.channel = channel
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel(x)  # (N, C, H, W)
        if self.spatial is None:
            return x
        return x * self.spatial(x)  # gate (N, 1, H, W)


def cbam(channels: int, scale: float = 1.0, norm: bool = False) -> Attention:
    """CBAM (Woo et al. 2018) with reduction 16 and a 7x7 spatial gate."""
    return Attention(ChannelGate(channels, scale=scale, norm=norm), SpatialGate(scale=scale))


def se(channels: int, scale: float = 1.0, norm: bool = False) -> Attention:
    """Squeeze-and-excitation (Hu et al. 2018) with reduction 16: the channel gate over average pooling only."""
    return Attention(ChannelGate(channels, pools=("average",), scale=scale, norm=norm))


def coordinate(channels: int, scale: float = 1.0, norm: bool = False) -> Attention:
    """Coordinate attention (Hou et al. 2021) with reduction 32, whose gate has a norm of its own."""
    del norm
    return Attention(CoordinateGate(channels, scale=scale))


def none(channels: int, scale: float = 1.0, norm: bool = False) -> Attention:
    """No attention, with the same interface."""
    del channels, scale, norm
    return Attention(Unchanged())


ATTENTIONS: dict[str, Callable[[int, float, bool], Attention]] = {
    "cbam": cbam,
    "se": se,
    "coordinate": coordinate,
    "none": none,
}


def create_attention(name: str, channels: int, *, open_gates: bool = False, gate_norm: bool = False) -> Attention:
    """Name of an attention block and number of channels -> the block. ModelError for an unknown name.

    Args:
        open_gates: gates of 2 x sigmoid, which `initialize` starts at exactly 1.
        gate_norm: channel gates are computed from batch-normalized maps.
    """
    if name not in ATTENTIONS:
        raise ModelError(f"Unknown attention {name!r}.{did_you_mean(name, ATTENTIONS)}")
    return ATTENTIONS[name](channels, OPEN_SCALE if open_gates else 1.0, gate_norm)
