"""FeatherDetect: a person detector without anchor boxes, on the backbone of FeatherPose.

Every point of three maps predicts the distances to the four sides of a person's box (FCOS, Tian et al. 2019, section
3.1, https://arxiv.org/abs/1904.01355) and one logit that is both score and quality of this box (Li et al. 2020, section
3, https://arxiv.org/abs/2006.04388). A second branch predicts keypoints from each point, as offsets in strides (Maji et
al. 2022, section 3, https://arxiv.org/abs/2204.06806): an auxiliary task in training, or a one-stage pose model.

The levels share the convolutions of a head, but each has its own batch norms, as in RTMDet (Lyu et al. 2022,
https://arxiv.org/abs/2212.07784): shared norms would see one level at a time in training and all of them in eval mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from featherpose.networks.efficientnet_lite0 import CHANNELS, efficientnet_lite0
from featherpose.networks.fpn import FPN, Stages, check_channels
from featherpose.networks.heads import check_multiples
from featherpose.networks.initialize import initialize

STRIDES = (8, 16, 32)  # input pixels per cell of the three maps
LAYERS = 2  # separable convolutions of a head
START_SCORE = 0.01  # otherwise background dominates the first steps (focal loss, Lin et al. 2017, section 4.1)
START_LOGIT = -math.log((1 - START_SCORE) / START_SCORE)
START_DISTANCE = 1.0  # before softplus: boxes start 2.6 strides wide and overlap people from the first step


class RawDetections(NamedTuple):
    """What a detector predicts at each of the P points of its maps, finest map first, each row by row.

    The center of the top-left pixel is (0, 0), the point of cell i is at (i + 0.5) * stride - 0.5
    (`codecs.boxes.points`).
    """

    logits: Tensor
    """(N, P) of the score, which predicts the IoU with the person's box."""
    distances: Tensor
    """(N, P, 4) from the point to left, top, right and bottom of the box, in input pixels, at least 0."""
    keypoints: Tensor | None
    """(N, P, K, 2) in input pixels; None without the keypoint branch."""
    visibility: Tensor | None
    """(N, P, K) logits of whether a keypoint is labeled; None without the keypoint branch."""


class SharedLayers(nn.ModuleList):
    """Separable 3x3 convolutions that all levels share, with norms of each level: (N, C, h, w) -> same shape."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__(SharedSeparableConv(channels, levels) for _ in range(LAYERS))

    def forward(self, x: Tensor, level: int) -> Tensor:
        for layer in self:
            x = layer(x, level)
        return x  # (N, C, h, w)


class SharedSeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, each with one norm per level, then ReLU: (N, C, h, w) -> same."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depthwise_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))
        self.pointwise_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.pointwise_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        x = self.depthwise_norms[level](self.depthwise_conv(x))
        return self.pointwise_norms[level](self.pointwise_conv(x)).relu_()  # (N, C, h, w)


class BoxHead(nn.Module):
    """Maps (N, C, h, w), finest first -> quality logits (N, P) and distances (N, P, 4) in input pixels.

    A distance is softplus(scale * x) in units of the level's stride, with one learned scale per level (FCOS, section
    3.2).
    """

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.layers = SharedLayers(channels, len(strides))
        self.quality = nn.Conv2d(channels, 1, 1)
        self.distances = nn.Conv2d(channels, 4, 1)
        self.scales = nn.Parameter(torch.ones(len(strides)))
        self.strides = tuple(strides)

    def init_weights(self) -> None:
        for part in self.children():
            initialize(part)
        nn.init.constant_(self.quality.bias, START_LOGIT)  # pyright: ignore[reportArgumentType]
        nn.init.constant_(self.distances.bias, START_DISTANCE)  # pyright: ignore[reportArgumentType]
        nn.init.ones_(self.scales)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits: list[Tensor] = []
        distances: list[Tensor] = []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            x = self.layers(x, level)  # (N, C, h, w)
            logits.append(_per_point(self.quality(x)).squeeze(2))  # (N, h * w)
            scaled = _per_point(self.distances(x)) * self.scales[level]
            distances.append(nn.functional.softplus(scaled) * stride)  # (N, h * w, 4)
        return torch.cat(logits, 1), torch.cat(distances, 1)  # (N, P), (N, P, 4)


class KeypointBranch(nn.Module):
    """Maps (N, C, h, w), finest first -> keypoints (N, P, K, 2) in input pixels and visibility logits (N, P, K)."""

    def __init__(self, channels: int, num_keypoints: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.layers = SharedLayers(channels, len(strides))
        self.offsets = nn.Conv2d(channels, 2 * num_keypoints, 1)
        self.visibility = nn.Conv2d(channels, num_keypoints, 1)
        self.strides = tuple(strides)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        keypoints: list[Tensor] = []
        visibility: list[Tensor] = []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            x = self.layers(x, level)  # (N, C, h, w)
            offsets = _per_point(self.offsets(x)).unflatten(2, (-1, 2))  # (N, h * w, K, 2)
            keypoints.append(points_of(x.shape[2], x.shape[3], stride, x.device)[:, None] + offsets * stride)
            visibility.append(_per_point(self.visibility(x)))  # (N, h * w, K)
        return torch.cat(keypoints, 1), torch.cat(visibility, 1)  # (N, P, K, 2), (N, P, K)


def _per_point(x: Tensor) -> Tensor:
    """Map (N, C, h, w) -> float32 (N, h * w, C), row by row; bfloat16 has steps of 2 pixels at 512."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).float()


def points_of(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Size of a map in cells and its stride -> points (h * w, 2) as x, y in input px, as `codecs.boxes.points`."""
    down = torch.arange(height, dtype=torch.float32, device=device)[:, None].expand(height, width)
    across = torch.arange(width, dtype=torch.float32, device=device).expand(height, width)
    cells = torch.stack((across, down), 2).flatten(0, 1)  # (h * w, 2)
    return (cells + 0.5) * stride - 0.5


class DetectorNetwork(nn.Module):
    """Normalized image (N, 3, H, W), H and W multiples of 32 -> `RawDetections`. ModelError for other sizes."""

    strides = STRIDES
    multiple = 32

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, box_head: nn.Module, keypoint_branch: nn.Module | None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.box_head = box_head
        self.keypoint_branch = keypoint_branch

    def forward(self, images: Tensor) -> RawDetections:
        maps = self._maps(images)
        logits, distances = self.box_head(maps)  # (N, P), (N, P, 4)
        if self.keypoint_branch is None:
            return RawDetections(logits, distances, None, None)
        keypoints, visibility = self.keypoint_branch(maps)  # (N, P, K, 2), (N, P, K)
        return RawDetections(logits, distances, keypoints, visibility)

    def detect_only(self, images: Tensor) -> RawDetections:
        """Like `forward`, without the keypoint branch."""
        logits, distances = self.box_head(self._maps(images))  # (N, P), (N, P, 4)
        return RawDetections(logits, distances, None, None)

    def _maps(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        check_multiples(height, width, self.multiple)
        return self.neck(self.backbone(images)[1:])  # (N, C, H / 8, W / 8), ..., (N, C, H / 32, W / 32)


def feather_detect(num_keypoints: int = 17, *, neck_channels: int = 64, keypoints: bool = True) -> DetectorNetwork:
    """FeatherDetect: 1.9 M parameters; initialize it from an ImageNet checkpoint of EfficientNet-Lite0 or FeatherPose.

    `neck_channels` is the width of the FPN and the heads, a multiple of 16; otherwise ModelError. `keypoints` adds the
    keypoint branch.
    """
    check_channels("neck_channels", neck_channels)
    branch = KeypointBranch(neck_channels, num_keypoints, STRIDES) if keypoints else None
    neck = FPN(CHANNELS[1:], neck_channels)
    return DetectorNetwork(Stages(efficientnet_lite0()), neck, BoxHead(neck_channels, STRIDES), branch)
