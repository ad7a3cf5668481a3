"""Attention blocks: CBAM, squeeze-and-excitation, coordinate attention.

Each block is split into the two parts that the fast head (`heads.AttentionHead`) applies separately: `channel`, which
commutes with nearest upsampling, and `spatial`, a gate per pixel, computed at the resolution at which it is applied.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks.layers import upsample_nearest


class ChannelGate(nn.Module):
    """Channel attention of CBAM: (N, C, H, W) -> gated (N, C, H, W).

    sigmoid(MLP(average pool) + MLP(maximum pool)), one MLP with biases and C / 16 hidden units for both
    (Woo et al. 2018, section 3.1). `factor` is not needed: upsampling does not change pooled values.
    """

    def __init__(self, channels: int, reduction: int = 16, *, pools: tuple[str, ...] = ("average", "maximum")) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.use_maximum = "maximum" in pools

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        del factor
        hidden = self.reduce(x.mean((2, 3))).relu()  # (N, C/16)
        if self.use_maximum:
            hidden_of_maximum = self.reduce(x.amax((2, 3))).relu()  # (N, C/16)
            hidden = torch.stack((hidden, hidden_of_maximum))  # (2, N, C/16)
        gate = self.expand(hidden)  # (N, C), or (2, N, C) with both pools
        if self.use_maximum:
            gate = gate.sum(0)  # (N, C)
        return x * gate.sigmoid()[:, :, None, None]  # (N, C, H, W)


class SpatialGate(nn.Module):
    """Spatial attention of CBAM: (N, C, H, W) -> gate (N, 1, H * factor, W * factor).

    sigmoid(batch norm(7x7 convolution without bias over [channel maximum, channel mean])), in the order and with
    the norm (momentum 0.01) of the official code. The two maps are upsampled before the convolution, which
    equals upsampling x: maximum and mean over channels commute with nearest upsampling.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        maximum = x.amax(1, keepdim=True)  # (N, 1, H, W)
        mean = x.mean(1, keepdim=True)  # (N, 1, H, W)
        pooled = torch.cat((maximum, mean), 1)  # (N, 2, H, W)
        pooled = upsample_nearest(pooled, factor)  # (N, 2, H * factor, W * factor)
        return self.bn(self.conv(pooled)).sigmoid()  # (N, 1, H * factor, W * factor)


class CoordinateGate(nn.Module):
    """Coordinate attention: (N, C, H, W) -> gated (N, C, H, W) (Hou et al. 2021, section 3.2).

    Row and column means pass a shared 1x1 convolution to max(8, C / 32) channels, batch norm and hard swish, then
    a 1x1 convolution and a sigmoid each. With `factor`, batch norm counts every value as often as it would
    occur in the upsampled map, so that its running variance (n / (n - 1)) matches the upsampled map.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        height, width = x.shape[-2:]
        row_means = x.mean(3, keepdim=True)  # (N, C, H, 1)
        column_means = x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, W, 1)
        profile = torch.cat((row_means, column_means), 2)  # (N, C, H + W, 1)
        # Repeated for the statistics of the norm alone; afterwards every value is kept once.
        hidden = self.reduce(profile).repeat_interleave(factor, dim=2)  # (N, hidden, (H + W) * factor, 1)
        hidden = nn.functional.hardswish(self.bn(hidden)[:, :, ::factor])  # (N, hidden, H + W, 1)
        rows, columns = hidden.split((height, width), dim=2)  # (N, hidden, H, 1), (N, hidden, W, 1)
        x = x * self.rows(rows).sigmoid()  # gate (N, C, H, 1)
        return x * self.columns(columns.transpose(2, 3)).sigmoid()  # gate (N, C, 1, W)


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


def cbam(channels: int) -> Attention:
    """CBAM (Woo et al. 2018) with reduction 16 and a 7x7 spatial gate."""
    return Attention(ChannelGate(channels), SpatialGate())


def se(channels: int) -> Attention:
    """Squeeze-and-excitation (Hu et al. 2018) with reduction 16: the channel gate over average pooling only."""
    return Attention(ChannelGate(channels, pools=("average",)))


def coordinate(channels: int) -> Attention:
    """Coordinate attention (Hou et al. 2021) with reduction 32."""
    return Attention(CoordinateGate(channels))


def none(channels: int) -> Attention:
    """No attention, with the same interface."""
    del channels
    return Attention(Unchanged())


ATTENTIONS: dict[str, Callable[[int], Attention]] = {"cbam": cbam, "se": se, "coordinate": coordinate, "none": none}


def create_attention(name: str, channels: int) -> Attention:
    """Name of an attention block and number of channels -> the block. ModelError for an unknown name."""
    if name not in ATTENTIONS:
        raise ModelError(f"Unknown attention {name!r}.{did_you_mean(name, ATTENTIONS)}")
    return ATTENTIONS[name](channels)
