"""Attention on every resolution before the last layer: readings of the CBAM-LiteHRNet paper.

The paper's sentences cannot all be satisfied at once; `cbam_lite_hrnet.HEADS` says which each head follows. "Maps" are
those of a backbone at 1/4, 1/8, 1/16, 1/32 of the input, finest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from featherpose.networks.attention import Attention
from featherpose.networks.heads import HeatmapConv, HeatmapNorm, IterativeHead, resize_bilinear
from featherpose.networks.layers import upsample_nearest


class IterativeAttentionHead(IterativeHead):
    """Attention on every map, then Lite-HRNet's iterative head: maps -> (N, channels[0], H/4, W/4).

    Without attention, or with all gates 1, it is `IterativeHead`.
    """

    def __init__(self, channels: Sequence[int], attention: Callable[[int], Attention]) -> None:
        super().__init__(channels)
        self.attention = nn.ModuleList(attention(c) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        attended = [attend(x) for attend, x in zip(self.attention, maps, strict=True)]  # same shapes
        return super().forward(attended)  # (N, channels[0], H/4, W/4)


class ConcatHead(nn.Module):
    """Each map upsampled to 1/4, attention, concatenation, 1x1: maps -> heatmaps (N, K, H/4, W/4).

    Everything that commutes with nearest upsampling is computed before it:
    heatmaps = sum_b Ms_b * up(conv_b(Mc_b * x_b)) + bias, with the channel gate Mc_b, the spatial gate Ms_b and the
    slice conv_b of the last layer for branch b.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_keypoints: int,
        attention: Callable[[int], Attention],
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleList(attention(c) for c in channels)
        self.final_layer = HeatmapConv(sum(channels), num_keypoints)
        self.norm = HeatmapNorm(num_keypoints) if norm else nn.Identity()
        self.channels = tuple(channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        weight, bias = self._last_layer()
        weights = weight.split(self.channels, dim=1)  # (K, C_b, 1, 1) of each branch b
        branches = zip(maps, self.attention, weights, strict=True)
        parts = [self._part(x, maps[0], cast(Attention, attend), weight) for x, attend, weight in branches]
        heatmaps = sum(parts[1:], parts[0]) + bias[:, None, None]  # (N, K, H/4, W/4)
        return self.norm(heatmaps) if self.training else heatmaps

    def _last_layer(self) -> tuple[Tensor, Tensor]:
        """Weight (K, C, 1, 1) and bias (K,), in evaluation mode with the norm merged into them."""
        weight = self.final_layer.weight
        bias = cast(Tensor, self.final_layer.bias)
        norm = self.norm
        if self.training or not isinstance(norm, HeatmapNorm):
            return weight, bias
        mean = cast(Tensor, norm.running_mean)
        scale = norm.weight / (cast(Tensor, norm.running_var) + norm.eps).sqrt()  # (K,)
        return weight * scale[:, None, None, None], (bias - mean) * scale + norm.bias

    def _part(self, x: Tensor, finest: Tensor, attention: Attention, weight: Tensor) -> Tensor:
        """A map (N, C_b, h, w), its attention and its slice of the last layer -> its summand (N, K, H/4, W/4)."""
        factor = finest.shape[-1] // x.shape[-1]
        gated = attention.channel(x, factor)  # (N, C_b, h, w)
        heatmaps = nn.functional.conv2d(gated, weight)  # (N, K, h, w)
        heatmaps = upsample_nearest(heatmaps, factor)  # (N, K, H/4, W/4)
        if attention.spatial is None:
            return heatmaps
        return heatmaps * attention.spatial(gated, factor)  # gate (N, 1, H/4, W/4)


class NativeHead(ConcatHead):
    """Attention on each map at its own resolution, bilinear upsampling to 1/4, concatenation, 1x1: same shapes.

    The 1x1 commutes with the upsampling and is computed before it.
    """

    def _part(self, x: Tensor, finest: Tensor, attention: Attention, weight: Tensor) -> Tensor:
        heatmaps = nn.functional.conv2d(attention(x), weight)  # (N, K, h, w)
        return resize_bilinear(heatmaps, finest)  # (N, K, H/4, W/4)
