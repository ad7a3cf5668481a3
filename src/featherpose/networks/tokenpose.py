"""TokenPose: keypoints are tokens that attend to patches of a feature map.

TokenPose: Learning Keypoint Tokens for Human Pose Estimation, Li et al. 2021, https://arxiv.org/abs/2104.03516; names
of submodules as in the official checkpoints (https://github.com/leeyegy/TokenPose), which use `pre_feature.` for
`backbone.`, `transformer.` for `keypoint_head.` and, in the S networks, `features.` for both.

As in the official code, the sine position table is added before every block except the first one of the second and
third transformer of L, and the S networks scale attention by 1 / sqrt(192), the token dimension, not the head's.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from featherpose.errors import InputError, ModelError
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.hrnet import STEM_CHANNELS, HRNet
from featherpose.size import Size

DIM = 192  # of a token
HIDDEN = 576  # dimension of the hidden layer of the feed-forward block
INIT_STD = 0.02  # standard deviation of initial linear weights and tokens (official code)
INPUT_SIZE = Size(height=256, width=192)


class SelfAttention(nn.Module):
    """Multi-head self-attention: (N, T, D) -> same shape; query, key and value have no bias.

    `scale` of the products defaults to 1 / sqrt(dimension of a head).
    """

    def __init__(self, heads: int, scale: float | None) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.to_out = nn.Sequential(nn.Linear(DIM, DIM))
        self.heads = heads
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(x).unflatten(2, (3, self.heads, -1))  # (N, T, 3, heads, D / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, T, D / heads) each
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.to_out(attended.transpose(1, 2).flatten(2))  # (N, T, D)


class FeedForward(nn.Module):
    """Two linear layers on each token: (N, T, D) -> same shape."""

    def __init__(self) -> None:
        super().__init__()
        no_dropout = nn.Identity()  # keeps the published layer indices
        self.net = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.GELU(), no_dropout, nn.Linear(HIDDEN, DIM))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # (N, T, D)


class Residual(nn.Module):
    """x + inner(norm(x)): (N, T, D) -> same shape."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Sequential(OrderedDict(norm=nn.LayerNorm(DIM), fn=inner))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)  # (N, T, D)


class Transformer(nn.Module):
    """Self-attention and feed-forward blocks: tokens (N, T, D) -> same shape; `places` (1, T, D): position encoding."""

    def __init__(self, depth: int, heads: int, scale: float | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(Residual(SelfAttention(heads, scale)), Residual(FeedForward())) for _ in range(depth)
        )

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        x = self.layers[0](x)
        for block in self.layers[1:]:
            x = block(x + places)  # (N, T, D)
        return x


class TokenHead(nn.Module):
    """One map (N, C, h, w) -> heatmaps (N, K, *heatmap_size) (paper, section 3).

    The map, of `map_shape` (C, h, w), is split into patches of `patch` (height, width) cells. The tokens are one
    learned token per keypoint and one per patch. The keypoint tokens after each transformer are concatenated and
    mapped to heatmaps.
    """

    def __init__(
        self,
        num_keypoints: int,
        map_shape: tuple[int, int, int],
        patch: tuple[int, int],
        heatmap_size: tuple[int, int],
        transformers: Sequence[Transformer],
    ) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.keypoint_token = nn.Parameter(torch.zeros(1, num_keypoints, DIM))
        # Not trained, but stored and counted as a parameter, as published.
        table = sine_table(height // patch[0], width // patch[1])
        self.pos_embedding = nn.Parameter(table, requires_grad=False)
        self.patch_to_embedding = nn.Linear(channels * patch[0] * patch[1], DIM)
        # As in the official checkpoints: numbered from 1 where there are several.
        self.transformers = ["transformer"]
        if len(transformers) > 1:
            self.transformers = [f"transformer{number}" for number in range(1, len(transformers) + 1)]
        for name, transformer in zip(self.transformers, transformers, strict=True):
            self.add_module(name, transformer)
        self.mlp_head = _linear_layers(DIM * len(transformers), heatmap_size[0] * heatmap_size[1])
        self.patch = patch
        self.heatmap_size = heatmap_size

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.keypoint_token, std=INIT_STD)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=INIT_STD)
            elif isinstance(part, nn.LayerNorm):
                part.reset_parameters()
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_to_embedding(split_patches(x, self.patch))  # (N, P, D), P patches
        keypoint_tokens = self.keypoint_token.expand(x.shape[0], -1, -1)  # (N, K, D)
        num_keypoints = keypoint_tokens.shape[1]
        # Keypoint tokens have no position: zeros.
        places = nn.functional.pad(self.pos_embedding, (0, 0, num_keypoints, 0))  # (1, K + P, D)
        tokens = torch.cat((keypoint_tokens, patches), 1) + places  # (N, K + P, D)
        read: list[Tensor] = []
        for name in self.transformers:
            tokens = self.get_submodule(name)(tokens, places)  # (N, K + P, D)
            read.append(tokens[:, :num_keypoints])
        cells = self.mlp_head(torch.cat(read, 2))  # (N, K, h * w)
        return cells.unflatten(2, self.heatmap_size)  # (N, K, h, w)


def _linear_layers(read: int, cells: int) -> nn.Sequential:
    """Layers from `read` values of a keypoint's tokens to the `cells` of its heatmap.

    Each layer is preceded by a norm. A hidden layer of cells / 8 is used if that is at least 2 * `read`, as published.
    """
    hidden = cells // 8
    if hidden < 2 * read:
        return nn.Sequential(nn.LayerNorm(read), nn.Linear(read, cells))
    return nn.Sequential(nn.LayerNorm(read), nn.Linear(read, hidden), nn.LayerNorm(hidden), nn.Linear(hidden, cells))


def split_patches(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Map (N, C, h, w) -> its patches in row-major order (N, patches, values), values ordered row, column, channel."""
    height, width = patch
    rows = x.shape[2] // height
    columns = x.shape[3] // width
    cells = x.unflatten(3, (columns, width)).unflatten(2, (rows, height))  # (N, C, rows, height, columns, width)
    cells = cells.permute(0, 2, 4, 3, 5, 1)  # (N, rows, columns, height, width, C)
    return cells.flatten(3).flatten(1, 2)  # (N, rows * columns, height * width * C)


def sine_table(rows: int, columns: int) -> Tensor:
    """Position encoding of each patch (1, rows * columns, D): sines and cosines of y, then of x, at 48 wavelengths.

    As in the official code, in float32: positions run from 1/n to 1 times a full circle, wavelengths grow with powers
    of 10,000.
    """
    half = torch.arange(DIM // 2)
    wavelengths = 10000 ** (2 * (half // 2).float() / (DIM // 2))  # (96,), each one twice: for sine and cosine

    def waves(n: int) -> Tensor:
        """Number of patches along an axis -> (n, 96) sines and cosines of their positions."""
        places = torch.arange(1, n + 1, dtype=torch.float32)
        positions = places / (places[-1] + 1e-6) * (2 * math.pi)
        angles = positions[:, None] / wavelengths  # (n, 96)
        return torch.where(half % 2 == 0, angles.sin(), angles.cos())

    down = waves(rows)[:, None].expand(-1, columns, -1)  # (rows, columns, 96)
    across = waves(columns).expand(rows, -1, -1)  # (rows, columns, 96)
    table = torch.cat((down, across), 2)  # (rows, columns, D)
    return table.flatten(0, 1)[None]


def tokenpose(
    backbone: nn.Module,
    num_keypoints: int,
    input_size: Size | str | Mapping[str, int],
    transformers: Sequence[Transformer],
    *,
    channels: int,
    stride: int = 4,
    patch: tuple[int, int] | None = None,
) -> PoseNetwork:
    """TokenPose after a backbone whose map has `channels` and `stride`, for one `input_size` only.

    The published networks for 256x192, 256x256 and 384x288 pixels (height x width) split the map at 1/4 into patches
    of height/64 x width/64 cells, rounded down, S-v2 into 2x2. Two linear layers produce the heatmaps if the hidden
    one, an eighth of a heatmap, is at least twice as wide as their input. ModelError for sizes that cannot be split.
    """
    size = _parse_input_size(input_size)
    heatmap_size = (size.height // PoseNetwork.stride, size.width // PoseNetwork.stride)
    if patch is None:
        patch = (max(1, size.height // 64), max(1, size.width // 64))
    if heatmap_size[0] % patch[0] or heatmap_size[1] % patch[1]:
        raise ModelError(
            f"input_size is {size} (height x width), which cannot be split into patches of "
            f"{4 * patch[0]}x{4 * patch[1]} pixels; 256x192, 256x256 and 384x288 can."
        )
    # `patch` is in heatmap cells; on a map of smaller stride (T: the image itself) it has more cells.
    scale = PoseNetwork.stride // stride
    map_shape = (channels, scale * heatmap_size[0], scale * heatmap_size[1])
    map_patch = (scale * patch[0], scale * patch[1])
    head = TokenHead(num_keypoints, map_shape, map_patch, heatmap_size, transformers)
    return PoseNetwork(backbone, head, fixed_size=size)


def _parse_input_size(input_size: Size | str | Mapping[str, int]) -> Size:
    try:
        size = Size.of(input_size)
    except InputError as error:
        raise ModelError(f"input_size: {error}") from None
    if size.height % PoseNetwork.multiple or size.width % PoseNetwork.multiple:
        raise ModelError(
            f"input_size is {size} (height x width); both must be multiples of {PoseNetwork.multiple}, for "
            "example 256x192."
        )
    return size


def tokenpose_t(num_keypoints: int = 17, *, input_size: Size | str | Mapping[str, int] = INPUT_SIZE) -> PoseNetwork:
    """TokenPose-T, on the image itself: 5.9 M parameters."""
    return tokenpose(nn.Identity(), num_keypoints, input_size, [Transformer(12, heads=16)], channels=3, stride=1)


def tokenpose_s_v1(num_keypoints: int = 17, *, input_size: Size | str | Mapping[str, int] = INPUT_SIZE) -> PoseNetwork:
    """TokenPose-S-v1, on HRNet's stem: 6.7 M parameters."""
    transformers = [Transformer(12, heads=8, scale=DIM**-0.5)]
    return tokenpose(HRNet(0, stages=0), num_keypoints, input_size, transformers, channels=STEM_CHANNELS)


def tokenpose_s_v2(num_keypoints: int = 17, *, input_size: Size | str | Mapping[str, int] = INPUT_SIZE) -> PoseNetwork:
    """TokenPose-S-v2, on HRNet's stem with small patches: 6.4 M parameters."""
    transformers = [Transformer(12, heads=8, scale=DIM**-0.5)]
    return tokenpose(HRNet(0, stages=0), num_keypoints, input_size, transformers, channels=STEM_CHANNELS, patch=(2, 2))


def tokenpose_b(num_keypoints: int = 17, *, input_size: Size | str | Mapping[str, int] = INPUT_SIZE) -> PoseNetwork:
    """TokenPose-B, on three stages of HRNet-W32: 13.5 M parameters."""
    return tokenpose(HRNet(32, stages=2), num_keypoints, input_size, [Transformer(12, heads=8)], channels=32)


def tokenpose_l_d24(num_keypoints: int = 17, *, input_size: Size | str | Mapping[str, int] = INPUT_SIZE) -> PoseNetwork:
    """TokenPose-L-D24, on three stages of HRNet-W48, with three transformers of eight blocks: 27.5 M parameters."""
    transformers = [Transformer(8, heads=12) for _ in range(3)]
    return tokenpose(HRNet(48, stages=2), num_keypoints, input_size, transformers, channels=48)
