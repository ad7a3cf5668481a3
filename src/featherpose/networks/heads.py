"""Heads: maps of a backbone at 1/4, 1/8, 1/16, 1/32 of the input -> heatmaps (N, K, H/4, W/4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks.attention import Attention, create_attention
from featherpose.networks.initialize import init_normal
from featherpose.networks.layers import ConvUnit, relu, upsample_nearest
from featherpose.size import Size

UPSAMPLINGS = ("nearest", "bilinear")


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, then one ReLU: (N, C_in, H, W) -> (N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvUnit(in_channels, in_channels, 3, depthwise=True, activation=None)
        self.pointwise_conv = ConvUnit(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise_conv(x)  # (N, C_in, H, W)
        return self.pointwise_conv(x)  # (N, C_out, H, W)


class IterativeHead(nn.Module):
    """Neck of Lite-HRNet: four maps, finest first -> one map (N, channels[0], H/4, W/4).

    From the coarsest to the finest: separable convolution, bilinear upsampling with aligned corners, addition
    (official code, `IterativeHead`).
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        coarse_first = list(reversed(channels))
        outputs = [*coarse_first[1:], coarse_first[-1]]
        self.projects = nn.ModuleList(SeparableConv(i, o) for i, o in zip(coarse_first, outputs, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = self.projects[0](maps[-1])  # (N, channels[2], H/32, W/32)
        for project, finer in zip(self.projects[1:], reversed(maps[:-1]), strict=True):
            upsampled = resize_bilinear(x, finer, align_corners=True)  # shape of `finer`
            x = project(finer + upsampled)  # (N, channels of the next finer map, h, w)
        return x  # (N, channels[0], H/4, W/4)


class FinalLayer(nn.Module):
    """The last 1x1 convolution: one map (N, C, H/4, W/4) -> heatmaps (N, K, H/4, W/4)."""

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, num_keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(x)  # (N, K, H/4, W/4)


class DeconvolutionHead(nn.Module):
    """Three transposed convolutions and a 1x1: one map (N, C, H/32, W/32) -> heatmaps (N, K, H/4, W/4).

    The head of SimpleBaseline (Xiao et al. 2018, section 2): kernel 4, stride 2, 256 channels, each with a batch norm.
    """

    def __init__(self, channels: int, num_keypoints: int, hidden: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c in (channels, hidden, hidden):
            layers += [nn.ConvTranspose2d(c, hidden, 4, 2, 1, bias=False), nn.BatchNorm2d(hidden), relu()]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(hidden, num_keypoints, 1)

    def init_weights(self) -> None:
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deconv_layers(x)  # (N, 256, H/4, W/4)
        return self.final_layer(x)  # (N, K, H/4, W/4)


class AttentionHead(nn.Module):
    """Attention on every resolution before one 1x1 convolution: maps, finest first -> heatmaps (N, K, H/4, W/4).

    In the CBAM-LiteHRNet paper, each map is upsampled to the finest resolution and passes its own attention block,
    and the last layer reads the concatenation. Everything that commutes with nearest upsampling is computed before it:
    heatmaps = sum_b Ms_b * up(conv_b(Mc_b * x_b)) + bias, with conv_b the slice of the last layer for branch b.
    Bilinear upsampling does not commute with the maximum over channels and is computed in the paper's order.
    """

    def __init__(
        self, channels: Sequence[int], num_keypoints: int, *, attention: str = "cbam", upsample: str = "nearest"
    ) -> None:
        super().__init__()
        if upsample not in UPSAMPLINGS:
            raise ModelError(f"Unknown upsample {upsample!r}.{did_you_mean(upsample, UPSAMPLINGS)}")
        self.attention = nn.ModuleList(create_attention(attention, c) for c in channels)
        self.final_layer = nn.Conv2d(sum(channels), num_keypoints, 1)
        self.channels = tuple(channels)
        self.upsample = upsample

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        contribution = self._upsampled_last if self.upsample == "nearest" else self._upsampled_first
        weights = self.final_layer.weight.split(self.channels, dim=1)  # (K, C_b, 1, 1) of each branch b
        branches = zip(maps, self.attention, weights, strict=True)
        parts = [contribution(x, maps[0], cast(Attention, attend), weight) for x, attend, weight in branches]
        heatmaps = sum(parts[1:], parts[0])  # (N, K, H/4, W/4)
        return heatmaps + cast(Tensor, self.final_layer.bias)[:, None, None]

    def _upsampled_last(self, x: Tensor, finest: Tensor, attention: Attention, weight: Tensor) -> Tensor:
        factor = finest.shape[-1] // x.shape[-1]
        gated = attention.channel(x, factor)  # (N, C_b, h, w)
        heatmaps = nn.functional.conv2d(gated, weight)  # (N, K, h, w)
        heatmaps = upsample_nearest(heatmaps, factor)  # (N, K, H/4, W/4)
        if attention.spatial is None:
            return heatmaps
        return heatmaps * attention.spatial(gated, factor)  # gate (N, 1, H/4, W/4)

    def _upsampled_first(self, x: Tensor, finest: Tensor, attention: Attention, weight: Tensor) -> Tensor:
        gated = attention(resize_bilinear(x, finest))  # (N, C_b, H/4, W/4)
        return nn.functional.conv2d(gated, weight)  # (N, K, H/4, W/4)


def resize_bilinear(x: Tensor, like: Tensor, *, align_corners: bool = False) -> Tensor:
    """x (N, C, h, w) interpolated bilinearly to the height and width of `like`."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return nn.functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)


def check_multiples(height: int, width: int, multiple: int) -> None:
    """Height and width of an input in pixels; ModelError unless both are multiples of `multiple`."""
    if height % multiple or width % multiple:
        wanted = [max(1, round(n / multiple)) * multiple for n in (height, width)]
        raise ModelError(
            f"The input is {height}x{width} (height x width); both must be multiples of {multiple}, "
            f"for example {wanted[0]}x{wanted[1]}."
        )


class PoseNetwork(nn.Module):
    """A backbone and a head: normalized image (N, 3, H, W) -> heatmaps (N, K, H/4, W/4).

    Height and width must be multiples of `multiple`, so that each resolution is half of the next finer one. A network
    built for a single input size accepts only its `fixed_size`. ModelError for other sizes.
    """

    stride = 4
    multiple = 32

    def __init__(self, backbone: nn.Module, keypoint_head: nn.Module, fixed_size: Size | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.keypoint_head = keypoint_head
        self.fixed_size = fixed_size

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.fixed_size:
            self._check_fixed_size(height, width, self.fixed_size)
        else:
            check_multiples(height, width, self.multiple)
        features = self.backbone(x)  # one map, or maps at 1/4 to 1/32 of the input, finest first
        return self.keypoint_head(features)  # (N, K, H / stride, W / stride)

    def _check_fixed_size(self, height: int, width: int, expected: Size) -> None:
        if (height, width) != expected.shape:
            # `Size.of` refuses a text that is wider than tall; then the hint names the sides.
            hint = f"{height}x{width}" if width <= height else f"{{height: {height}, width: {width}}}"
            raise ModelError(
                f"The input is {height}x{width} (height x width); this network is built for "
                f"{expected}. For this input, build it with the option input_size={hint}."
            )
