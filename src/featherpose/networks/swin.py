"""Swin Transformer (tiny) with SimpleBaseline's head.

Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, Liu et al. 2021,
https://arxiv.org/abs/2103.14030; names and order of submodules as in torchvision's checkpoints. Stochastic depth, which
drops whole blocks in training, is left out: training is deterministic given the recipe and the step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featherpose.networks.heads import DeconvolutionHead, PoseNetwork

CHANNELS = 96  # of the first stage; each later stage doubles them
DEPTHS = (2, 2, 6, 2)  # blocks per stage (paper, section 3.3, Swin-T)
HEADS = (3, 6, 12, 24)  # per stage, of 32 channels each
LAST_CHANNELS = CHANNELS * 2 ** (len(DEPTHS) - 1)
PATCH = 4  # side length in pixels
WINDOW = 7  # side length in patches
INIT_STD = 0.02  # standard deviation of initial linear weights and position bias tables (official code)
MASK_VALUE = -100.0  # added to the attention of two tokens that are neighbors only because of the cyclic shift


class WindowAttention(nn.Module):
    """Self-attention within 7x7 windows: (N, H, W, C) -> same shape (paper, section 3.2).

    The windows are shifted by `shift` tokens to the right and down. A map is zero-padded to whole windows, and is not
    shifted along a side with a single window.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, shift: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", position_bias_indices(), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.heads = heads
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = nn.functional.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))  # (N, H', W', C), whole windows
        size = (x.shape[1], x.shape[2])
        shift = tuple(self.shift if side > WINDOW else 0 for side in size)
        if any(shift):
            x = x.roll([-tokens for tokens in shift], (1, 2))
        bias = self._position_bias()  # (heads, 49, 49)
        if any(shift):
            bias = bias + shift_mask(size, shift, x)  # (n, heads, 49, 49)
        windows = self._attend(split_windows(x), bias)  # (N, n, 49, C)
        y = merge_windows(windows, size)  # (N, H', W', C)
        if any(shift):
            y = y.roll(shift, (1, 2))
        return y[:, :height, :width]  # (N, H, W, C)

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Windows (N, n, 49, C) and attention bias (heads, 49, 49) or (n, heads, 49, 49) -> windows (N, n, 49, C)."""
        qkv = self.qkv(windows).unflatten(3, (3, self.heads, -1))  # (N, n, 49, 3, heads, 32)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # (N, n, heads, 49, 32) each
        products = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (N, n, heads, 49, 49)
        attended = (products + bias).softmax(-1) @ value  # (N, n, heads, 49, 32)
        return self.proj(attended.transpose(2, 3).flatten(3))  # (N, n, 49, C)

    def _position_bias(self) -> Tensor:
        """The learned relative position bias, (heads, 49, 49)."""
        bias = self.relative_position_bias_table[self.relative_position_index]  # (49, 49, heads)
        return bias.permute(2, 0, 1)


def position_bias_indices() -> Tensor:
    """(49, 49) row indices into the position bias table for each pair of tokens of a window: 13 x (dy + 6) + dx + 6."""
    position = torch.arange(WINDOW * WINDOW)
    y = position // WINDOW
    x = position % WINDOW
    dy = y[:, None] - y  # (49, 49), -6 to 6
    dx = x[:, None] - x
    return (2 * WINDOW - 1) * (dy + WINDOW - 1) + dx + WINDOW - 1


def split_windows(x: Tensor) -> Tensor:
    """Map (N, H, W, C) -> its windows in row-major order (N, n, 49, C)."""
    across = x.shape[2] // WINDOW
    whole = x.unflatten(2, (across, WINDOW)).unflatten(1, (-1, WINDOW))  # (N, down, 7, across, 7, C)
    return whole.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (N, n, 49, C)


def merge_windows(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows (N, n, 49, C) of a map of `size` (height, width) -> the map (N, H, W, C)."""
    height, _ = size
    whole = windows.unflatten(1, (height // WINDOW, -1)).unflatten(3, (WINDOW, WINDOW))  # (N, down, across, 7, 7, C)
    return whole.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (N, H, W, C)


def shift_mask(size: tuple[int, int], shift: Sequence[int], like: Tensor) -> Tensor:
    """Size and shift of a map (height, width) -> attention mask (n, 1, 49, 49), 0 for neighbors before the shift."""
    rows = _region_ids(size[0], shift[0], like)  # (H,)
    columns = _region_ids(size[1], shift[1], like)  # (W,)
    regions = 3 * rows[:, None] + columns  # (H, W), a number for each of up to nine regions
    labels = split_windows(regions[None, :, :, None])[0, :, :, 0]  # (n, 49)
    differ = labels[:, :, None] != labels[:, None, :]  # (n, 49, 49)
    return (differ.to(like.dtype) * MASK_VALUE)[:, None]


def _region_ids(side: int, moved: int, like: Tensor) -> Tensor:
    """(side,) 0 before the last window, 1 in it, 2 in the rows or columns wrapped around by the shift."""
    position = torch.arange(side, device=like.device)
    if not moved:
        return torch.zeros_like(position).int()
    in_last_window = (position >= side - WINDOW).int()
    wrapped_around = (position >= side - moved).int()
    return in_last_window + wrapped_around


class Block(nn.Module):
    """Window attention and an MLP, each with a shortcut: (N, H, W, C) -> same shape."""

    def __init__(self, channels: int, heads: int, shift: int) -> None:
        super().__init__()
        no_dropout = nn.Identity()  # keeps torchvision's layer indices
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), no_dropout, nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))  # (N, H, W, C)
        return x + self.mlp(self.norm2(x))  # (N, H, W, C)


class PatchMerging(nn.Module):
    """Patch merging, four neighbors into one token: (N, H, W, C) -> (N, H/2, W/2, 2 C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        # Column by column, the order of the published weights.
        neighbors = [x[:, top::2, left::2] for left in (0, 1) for top in (0, 1)]  # (N, H/2, W/2, C) each
        merged = torch.cat(neighbors, 3)  # (N, H/2, W/2, 4 C)
        return self.reduction(self.norm(merged))  # (N, H/2, W/2, 2 C)


class ChannelsLast(nn.Module):
    """(N, C, H, W) -> (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)  # (N, H, W, C)


class SwinTransformer(nn.Sequential):
    """The backbone: image (N, 3, H, W) -> (N, 768, H/32, W/32)."""

    def __init__(self) -> None:
        patches = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        layers: list[nn.Module] = [nn.Sequential(patches, ChannelsLast(), nn.LayerNorm(CHANNELS))]
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            channels = CHANNELS * 2**stage
            if stage > 0:
                layers.append(PatchMerging(channels // 2))
            # Every other block shifts its windows by half a window, so that neighboring windows exchange information.
            shifts = [0 if i % 2 == 0 else WINDOW // 2 for i in range(depth)]
            layers.append(nn.Sequential(*(Block(channels, heads, shift) for shift in shifts)))
        modules = OrderedDict((str(index), layer) for index, layer in enumerate(layers))
        modules["norm"] = nn.LayerNorm(LAST_CHANNELS)
        super().__init__(modules)

    def init_weights(self) -> None:
        """As in the official code; the patch embedding convolution keeps PyTorch's default initialization."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=INIT_STD)
            elif isinstance(part, WindowAttention):
                nn.init.trunc_normal_(part.relative_position_bias_table, std=INIT_STD)
            elif isinstance(part, nn.Conv2d | nn.LayerNorm):
                part.reset_parameters()
        for name, weight in self.named_parameters():
            if name.endswith("bias") and name != "0.0.bias":
                nn.init.zeros_(weight)

    def forward(self, input: Tensor) -> Tensor:
        tokens = super().forward(input)  # (N, H/32, W/32, 768)
        return tokens.permute(0, 3, 1, 2)  # (N, 768, H/32, W/32)


def swin_t(num_keypoints: int = 17) -> PoseNetwork:
    """Swin-T and three transposed convolutions: 32.8 M parameters."""
    return PoseNetwork(SwinTransformer(), DeconvolutionHead(LAST_CHANNELS, num_keypoints))
