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
        hidden = self.reduce(x.mean((2, 3))).relu()
        if self.use_maximum:
            hidden = torch.stack((hidden, self.reduce(x.amax((2, 3))).relu()))
        gate = self.expand(hidden)
        gate = gate.sum(0) if self.use_maximum else gate
        return x * gate.sigmoid()[:, :, None, None]


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
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return self.bn(self.conv(upsample_nearest(pooled, factor))).sigmoid()


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
        profile = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
        hidden = self.reduce(profile).repeat_interleave(factor, dim=2)
        hidden = nn.functional.hardswish(self.bn(hidden)[:, :, ::factor])
        rows, columns = hidden.split((height, width), dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()


class Unchanged(nn.Module):
    """No attention: returns x (N, C, H, W) unchanged."""

    def forward(self, x: Tensor, factor: int = 1) -> Tensor:
        del factor
        return x


class Attention(nn.Module):
    """An attention block: (N, C, H, W) -> gated (N, C, H, W); `spatial` reads the output of `channel`."""

    def __init__(self, channel: nn.Module, spatial: SpatialGate | None = None) -> None:
        super().__init__()
        self.channel = channel
        self.spatial = spatial

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel(x)
        return x if self.spatial is None else x * self.spatial(x)


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
