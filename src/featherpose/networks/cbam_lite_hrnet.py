"""CBAM-LiteHRNet: Lite-HRNet with an attention block on every resolution.

Lightweight Human Pose Estimation with Attention Mechanism; CBAM: Woo et al. 2018, https://arxiv.org/abs/1807.06521. The
paper publishes no code, and its sentences about the place of the blocks contradict each other: each of `HEADS` follows
one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks.attention import Attention, create_attention
from featherpose.networks.attention_heads import ConcatHead, IterativeAttentionHead, NativeHead
from featherpose.networks.heads import FinalLayer, IterativeMaps, PoseNetwork
from featherpose.networks.lite_hrnet import LiteHRNet, branch_channels, module_builder

ATTENTION_PLACES = ("head", "block")

Attend = Callable[[int], Attention]
NeckAndHead = tuple[nn.Module | None, nn.Module]
"""What the backbone does with its four maps (None: nothing), and what turns the result into heatmaps."""


def iterative(channels: Sequence[int], num_keypoints: int, attention: Attend, norm: bool) -> NeckAndHead:
    """Attention on each resolution, then Lite-HRNet's head and the last layer.

    "CBAM modules before the fully connected layer in each resolution". The only head that differs from Lite-HRNet's in
    the attention alone.
    """
    return IterativeAttentionHead(channels, attention), FinalLayer(channels[0], num_keypoints, norm=norm)


def concat(channels: Sequence[int], num_keypoints: int, attention: Attend, norm: bool) -> NeckAndHead:
    """Each resolution upsampled, attention, concatenation, the last layer.

    Figure 1 of the paper, and its "fewer parameters than the baseline".
    """
    return None, ConcatHead(channels, num_keypoints, attention, norm=norm)


def native(channels: Sequence[int], num_keypoints: int, attention: Attend, norm: bool) -> NeckAndHead:
    """Attention on each resolution at its own size, bilinear upsampling, concatenation, the last layer.

    "In each resolution".
    """
    return None, NativeHead(channels, num_keypoints, attention, norm=norm)


def iterative_concat(channels: Sequence[int], num_keypoints: int, attention: Attend, norm: bool) -> NeckAndHead:
    """Attention on the result of each step of Lite-HRNet's head, bilinear upsampling, concatenation, the last layer.

    "The output of each upsampling layer is extracted and passed through a CBAM module".
    """
    neck = IterativeMaps(channels)
    return neck, NativeHead(neck.step_channels, num_keypoints, attention, norm=norm)


HEADS: dict[str, Callable[[Sequence[int], int, Attend, bool], NeckAndHead]] = {
    "iterative": iterative,
    "concat": concat,
    "native": native,
    "iterative_concat": iterative_concat,
}


def cbam_lite_hrnet(
    depth: int,
    num_keypoints: int,
    *,
    head: str,
    norm: bool,
    attention: str,
    attention_at: str,
    open_gates: bool,
    gate_norm: bool,
    fuse: str,
    width: int,
) -> PoseNetwork:
    """CBAM-LiteHRNet of `depth` 18 or 30.

    Args:
        head: how the four resolutions become heatmaps, a name of `HEADS`.
        norm: batch norm after the last layer (`heads.HeatmapNorm`).
        attention: a name of `attention.ATTENTIONS`.
        attention_at: "head", or "block": in place of the spatial weighting of each block (Figure 2 of the paper), and
            then none in the head.
        open_gates: the gates start at 1 (`attention.create_attention`).
        gate_norm: the channel gates are computed from batch-normalized maps.
        fuse: "halved" or "published" (`lite_hrnet.Fuse`).
        width: channels at 1/4 of the input; twice as many at each coarser resolution.

    Raises:
        ModelError: an unknown name, or a width that cannot be split.
    """
    for option, value, known in (("head", head, HEADS), ("attention_at", attention_at, ATTENTION_PLACES)):
        if value not in known:
            raise ModelError(f"Unknown {option} {value!r}.{did_you_mean(value, known)}")
    channels = branch_channels(width)
    attend = partial(create_attention, attention, open_gates=open_gates, gate_norm=gate_norm)
    in_head = attend if attention_at == "head" else partial(create_attention, "none")
    neck, keypoint_head = HEADS[head](channels, num_keypoints, in_head, norm)
    create_module = module_builder(fuse=fuse, attention=attend if attention_at == "block" else None)
    return PoseNetwork(LiteHRNet(depth, channels, create_module, neck), keypoint_head)


def cbam_lite_hrnet_18(
    num_keypoints: int = 17,
    *,
    head: str = "concat",
    norm: bool = False,
    attention: str = "cbam",
    attention_at: str = "head",
    open_gates: bool = False,
    gate_norm: bool = False,
    fuse: str = "halved",
    width: int = 40,
) -> PoseNetwork:
    """CBAM-LiteHRNet-18: 1.08 M parameters."""
    return cbam_lite_hrnet(
        18,
        num_keypoints,
        head=head,
        norm=norm,
        attention=attention,
        attention_at=attention_at,
        open_gates=open_gates,
        gate_norm=gate_norm,
        fuse=fuse,
        width=width,
    )


def cbam_lite_hrnet_30(
    num_keypoints: int = 17,
    *,
    head: str = "concat",
    norm: bool = False,
    attention: str = "cbam",
    attention_at: str = "head",
    open_gates: bool = False,
    gate_norm: bool = False,
    fuse: str = "halved",
    width: int = 40,
) -> PoseNetwork:
    """CBAM-LiteHRNet-30: 1.72 M parameters."""
    return cbam_lite_hrnet(
        30,
        num_keypoints,
        head=head,
        norm=norm,
        attention=attention,
        attention_at=attention_at,
        open_gates=open_gates,
        gate_norm=gate_norm,
        fuse=fuse,
        width=width,
    )
