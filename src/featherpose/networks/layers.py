"""Blocks shared by several networks: convolution units, residual and shuffle units, resizing by integer factors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module] | None
# Safe in place: the preceding norm needs only its input for the gradient.
relu = partial(nn.ReLU, inplace=True)
relu6 = partial(nn.ReLU6, inplace=True)


class ConvUnit(nn.Module):
    """Convolution, batch norm and activation: (N, C_in, H, W) -> (N, C_out, H / stride, W / stride).

    The submodules are named `conv` and `bn`, as in the checkpoints of the mmpose family. Without a norm the
    convolution has a bias. With `depthwise`, every channel is its own group.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        depthwise: bool = False,
        norm: bool = True,
        activation: Activation = relu,
    ) -> None:
        super().__init__()
        groups = in_channels if depthwise else groups
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()  # identities, so that `forward` has no branch
        self.activate = activation() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))  # (N, C_out, H / stride, W / stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (N, C_in, H, W) -> (N, C, H / stride, W / stride).

    He et al. 2016, figure 5 left; names as in torchvision's checkpoints.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()  # (N, C, H / stride, W / stride)
        y = self.bn2(self.conv2(y))  # same shape
        return y.add_(self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut: (N, C_in, H, W) -> (N, 4 C, H / stride, W / stride).

    He et al. 2016, figure 5 right; names as in torchvision's checkpoints, stride in the 3x3 as in its code.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()  # (N, C, H, W)
        y = self.bn2(self.conv2(y)).relu_()  # (N, C, H / stride, W / stride)
        y = self.bn3(self.conv3(y))  # (N, 4 C, H / stride, W / stride)
        return y.add_(self.downsample(x)).relu_()


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ShuffleUnit(nn.Module):
    """Unit of ShuffleNetV2 (Ma et al. 2018, figure 3c, d): (N, C_in, H, W) -> (N, C, H / stride, W / stride).

    One half of the channels is passed unchanged, the other is convolved (1x1, depthwise 3x3, 1x1). With a stride above
    1, both halves are computed from all channels. The halves are interleaved.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        half = channels // 2
        if stride > 1:
            self.branch1 = nn.Sequential(
                ConvUnit(in_channels, in_channels, 3, stride=stride, depthwise=True, activation=None),
                ConvUnit(in_channels, half),
            )
        self.branch2 = nn.Sequential(
            ConvUnit(in_channels if stride > 1 else half, half),
            ConvUnit(half, half, 3, stride=stride, depthwise=True, activation=None),
            ConvUnit(half, half),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            return interleave(self.branch1(x), self.branch2(x))  # (N, C, H / stride, W / stride)
        kept, worked = x.chunk(2, dim=1)  # (N, C/2, H, W) each
        return interleave(kept, self.branch2(worked))  # (N, C, H, W)


class TwiceCountedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose running statistics update as if the same batch were seen twice: (N, C, H, W) -> same shape.

    Two updates with momentum m and equal batch statistics are one update with momentum 1 - (1 - m)^2.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__(channels, momentum=1 - (1 - momentum) ** 2)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)  # PyTorch adds the other one
        return super().forward(input)  # (N, C, H, W)


def fold_norm(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (C, C_in, h, w) and bias (C,) of a convolution, and the batch norm behind it, or an identity -> weight and
    bias of one convolution that equals both in eval mode, in float64 and without gradients."""
    weight = weight.detach().double()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().double()
    if not isinstance(norm, nn.BatchNorm2d):
        return weight, bias
    mean = cast(Tensor, norm.running_mean).double()  # (C,)
    variance = cast(Tensor, norm.running_var).double()  # (C,)
    gain = norm.weight.detach().double() / (variance + norm.eps).sqrt()  # (C,)
    return weight * gain[:, None, None, None], norm.bias.detach().double() + (bias - mean) * gain


def upsample_nearest(x: Tensor, factor: int) -> Tensor:
    """Nearest upsampling by an integer factor: (N, C, h, w) -> (N, C, h * factor, w * factor)."""
    return x if factor == 1 else nn.functional.interpolate(x, scale_factor=float(factor), mode="nearest")


def average_pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average pooling to `size` (h, w), which must divide the size of x: (N, C, H, W) -> (N, C, h, w)."""
    kernel = (x.shape[-2] // size[0], x.shape[-1] // size[1])
    return x if kernel == (1, 1) else nn.functional.avg_pool2d(x, kernel)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate two halves (N, C/2, H, W) and shuffle their channels in two groups -> (N, C, H, W).

    The result has the memory layout of `second`: a plain stack would make channels_last maps contiguous again, and
    every later layer would have to convert them.
    """
    if second.is_contiguous(memory_format=torch.channels_last):
        last = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=4)  # (N, H, W, C/2, 2)
        return last.flatten(3).permute(0, 3, 1, 2)  # (N, C, H, W)
    return torch.stack((first, second), dim=2).flatten(1, 2)  # (N, C/2, 2, H, W) -> (N, C, H, W)
