"""Shared by HRNet and Lite-HRNet: branches at 1/4, 1/8, 1/16, 1/32 of the input, added one by one, and fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from featherpose.networks.layers import relu, upsample_nearest

Downsample = Callable[[int, int, int], nn.Sequential]  # input channels, output channels, stride
Halve = Callable[[int, int, int], nn.Sequential]  # source branch, input channels, output channels


class Transition(nn.ModuleList):
    """Maps of one stage -> maps of the next stage: adds one branch at half the resolution of the coarsest map.

    The stem's map always gets its own convolution, whatever the width; maps of later stages are passed unchanged.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int], downsample: Downsample) -> None:
        from_stem = len(before) == 1
        kept = [downsample(before[0], after[0], 1)] if from_stem else [nn.Identity() for _ in before]
        # Published checkpoints number this convolution as the first of a sequence.
        added = nn.Sequential(downsample(before[-1], after[-1], 2))
        super().__init__([*kept, added])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        inputs = (*maps, maps[-1])  # the coarsest map is passed on and halved
        return [step(x) for step, x in zip(self, inputs, strict=True)]  # (N, after[i], h_i, w_i) each


class Exchange(nn.ModuleList):
    """Paths between the resolutions; each network defines how their outputs are summed.

    Row i, column j is the path F_ij from branch j to branch i. A path to a finer branch is a 1x1 convolution; `halve`
    builds one step of a path to a coarser one, without its activation. Only the first `outputs` branches get a row.
    """

    def __init__(self, channels: Sequence[int], halve: Halve, outputs: int) -> None:
        branches = range(len(channels))
        super().__init__(nn.ModuleList(_path(channels, j, i, halve) for j in branches) for i in range(outputs))

    def _sum_from_coarser(self, i: int, maps: Sequence[Tensor]) -> Tensor:
        """Sum of the paths from all coarser maps, upsampled step by step, so that only one step runs at full size."""
        coarsest = len(maps) - 1
        total = self._apply_path(coarsest, i, maps[coarsest])  # (N, C_i, h, w) at the size of the coarsest map
        for j in range(coarsest - 1, i, -1):
            total = upsample_nearest(total, 2) + self._apply_path(j, i, maps[j])  # at the size of map j
        return upsample_nearest(total, 2)  # (N, C_i, h_i, w_i)

    def _apply_path(self, source: int, target: int, x: Tensor) -> Tensor:
        return cast(nn.ModuleList, self[target])[source](x)


def _path(channels: Sequence[int], source: int, target: int, halve: Halve) -> nn.Module:
    """The layers from branch `source` to branch `target`; upsampling to a finer target is a separate step."""
    if source == target:
        return nn.Identity()
    if source > target:
        channels_out = channels[target]
        return nn.Sequential(nn.Conv2d(channels[source], channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))
    # Each step halves the resolution; only the last one changes the number of channels.
    outputs = [channels[source]] * (target - source - 1) + [channels[target]]
    steps = [halve(source, channels[source], c) for c in outputs]
    # The last step has no activation of its own: the sum over all paths gets one.
    for step in steps[:-1]:
        step.append(relu())
    return nn.Sequential(*steps)
