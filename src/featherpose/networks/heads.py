"""Heads: maps of a backbone at 1/4, 1/8, 1/16, 1/32 of the input -> heatmaps (N, K, H/4, W/4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from featherpose.errors import ModelError
from featherpose.networks.initialize import init_normal
from featherpose.networks.layers import ConvUnit, relu
from featherpose.size import Size


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
        return self._steps(maps)[0]  # (N, channels[0], H/4, W/4)

    def _steps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The results at every resolution, finest first."""
        x = self.projects[0](maps[-1])  # (N, channels[2], H/32, W/32)
        results = [x]
        for project, finer in zip(self.projects[1:], reversed(maps[:-1]), strict=True):
            upsampled = resize_bilinear(x, finer, align_corners=True)  # shape of `finer`
            x = project(finer + upsampled)  # (N, channels of the next finer map, h, w)
            results.insert(0, x)
        return results


class IterativeMaps(IterativeHead):
    """`IterativeHead` with the results of all its steps: four maps, finest first -> maps of `step_channels`."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(channels)
        self.step_channels = (channels[0], *channels[:-1])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._steps(maps)  # (N, step_channels[i], h_i, w_i) each


class HeatmapConv(nn.Conv2d):
    """The last 1x1 convolution, with the initial standard deviation 0.001 of HRNet's and Lite-HRNet's code."""

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__(channels, num_keypoints, 1)

    def init_weights(self) -> None:
        init_normal(self)


class HeatmapNorm(nn.BatchNorm2d):
    """Batch norm of the heatmaps (N, K, h, w), with the initial deviation 0.01 of heatmaps that are mostly background.

    Where the last layer reads maps with large means, an optimizer step moves whole heatmaps, and attention gates close
    to undo it (docs/study.md). It merges into the last layer at export.
    """

    def init_weights(self) -> None:
        self.reset_parameters()
        nn.init.constant_(self.weight, 0.01)


class FinalLayer(nn.Module):
    """The last 1x1 convolution: one map (N, C, H/4, W/4) -> heatmaps (N, K, H/4, W/4)."""

    def __init__(self, channels: int, num_keypoints: int, *, norm: bool = False) -> None:
        super().__init__()
        self.final_layer = HeatmapConv(channels, num_keypoints)
        self.norm = HeatmapNorm(num_keypoints) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.final_layer(x))  # (N, K, H/4, W/4)


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
