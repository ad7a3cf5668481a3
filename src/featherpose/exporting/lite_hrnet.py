"""Lite-HRNet in the form in which inference engines run it fast: the same function without splits and shuffles.

A block of the trained network passes one half of the channels of a map on, works on the other half and shuffles both.
Engines keep maps in blocks of channels and leave this layout at every split, shuffle and gate that they broadcast. Here
a block works on all channels: one that is passed on has a gate of sigmoid(100), which is 1 in float32, and a depthwise
kernel that copies it. A shuffle only renumbers: channel k of a map holds channel `order[k]` of the trained network, and
weights are arranged accordingly. Batch norms and the factors of `Fuse` are merged into the weights, and channels padded
with zeros to multiples of 16 (docs/log/2026-11-30-lite-hrnet-export.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from featherpose.networks.branches import Exchange, Transition
from featherpose.networks.heads import IterativeHead, PoseNetwork, SeparableConv
from featherpose.networks.layers import ConvUnit, average_pool_to, fold_norm, upsample_nearest
from featherpose.networks.lite_hrnet import Block, Fuse, LiteHRNet, LiteModule, SpatialWeighting, Stem

MULTIPLE = 16
"""Channels of a block in the layout of engines with AVX-512; those with AVX2 have blocks of 8."""
OPEN = 100.0
"""Logit of a gate that passes a channel on."""

Order = Tensor
"""(P,) int64: of each channel of a map its number in the trained network, -1 for padding."""


def for_engines(network: nn.Module) -> nn.Module:
    """Network in eval mode -> the same function in this form, if it is a Lite-HRNet with spatial weighting in its
    blocks; any other network as it is."""
    if not isinstance(network, PoseNetwork) or not isinstance(network.backbone, LiteHRNet):
        return network
    modules = [*network.backbone.stage0, *network.backbone.stage1, *network.backbone.stage2]
    if not all(isinstance(module, LiteModule) and _has_spatial_weighting(module) for module in modules):
        return network
    return PoseNetwork(FastLiteHRNet(network.backbone), network.keypoint_head, network.fixed_size).eval()


def _has_spatial_weighting(module: LiteModule) -> bool:
    blocks = [cast(Block, block) for block in module.layers]
    return all(isinstance(weighting, SpatialWeighting) for block in blocks for weighting in block.spatial_weighting)


class FastLiteHRNet(nn.Module):
    """The backbone in eval mode: image (N, 3, H, W) -> what `LiteHRNet` gives."""

    def __init__(self, trained: LiteHRNet) -> None:
        super().__init__()
        self.stem, order = _stem(trained.stem)
        orders = [order]
        self.stages = nn.ModuleList()
        for transition, modules in (
            (trained.transition0, trained.stage0),
            (trained.transition1, trained.stage1),
            (trained.transition2, trained.stage2),
        ):
            step, orders = _transition(transition, orders)
            self.stages.append(step)
            for module in modules:
                fast = FastModule(cast(LiteModule, module), orders)
                orders = fast.orders
                self.stages.append(fast)
        head = trained.head_layer
        self.head_layer = FastHead(head, orders) if type(head) is IterativeHead else Restored(head, orders)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        maps = [self.stem(x)]
        for stage in self.stages:
            maps = stage(maps)
        return self.head_layer(maps)


class FastStem(nn.Module):
    """`Stem` with its first convolution in two halves: image (N, 3, H, W) -> (N, 32, H/4, W/4)."""

    def __init__(self, first: nn.Sequential, second: nn.Sequential) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.first(x), self.second(x)), 1)


class FastTransition(Transition):
    """`Transition` of steps that are built already."""

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        nn.ModuleList.__init__(self, steps)


class FastModule(nn.Module):
    """`LiteModule`: two blocks, then fusion."""

    def __init__(self, module: LiteModule, orders: Sequence[Order]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        blocks = list(module.layers)
        fuse = module.fuse_layers
        for block in blocks:
            # The published fusion doubles the finest map, which nothing else reads.
            doubles = block is blocks[-1] and not fuse.halved
            self.blocks.append(FastBlock(cast(Block, block), orders, 2.0 if doubles else 1.0))
            orders = [_shuffled(order) for order in orders]
        self.fuse = FastFuse(fuse, orders)
        self.orders = list(orders)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        for block in self.blocks:
            maps = block(maps)
        return self.fuse(maps)


class FastBlock(nn.Module):
    """`Block` on all channels; the finest map is multiplied by `scale` besides."""

    def __init__(self, block: Block, orders: Sequence[Order], scale: float) -> None:
        super().__init__()
        worked = [_worked(order) for order in orders]
        weighting = block.cross_resolution_weighting
        weight, bias = _folded(weighting.conv1)  # (hidden, sum of C_i / 2, 1, 1)
        hidden = _padded(len(bias))
        # One convolution for each map, summed; the first has the bias: engines leave their layout to add a constant.
        parts = zip(weight.split(weighting.channels, 1), [bias, *[None] * len(worked)], worked, strict=False)
        self.reduce = nn.ModuleList(_pointwise(part, b, hidden, columns) for part, b, columns in parts)
        weight, bias = _folded(weighting.conv2)
        gates = zip(weight.split(weighting.channels), bias.split(weighting.channels), worked, strict=True)
        self.gates = nn.ModuleList(_pointwise(part, b, rows, hidden, OPEN) for part, b, rows in gates)
        self.convolve = nn.ModuleList()
        self.spatial_reduce = nn.ModuleList()
        self.spatial_gates = nn.ModuleList()
        for branch, (unit, spatial, rows) in enumerate(
            zip(block.depthwise_convs, block.spatial_weighting, worked, strict=True)
        ):
            factor = scale if branch == 0 else 1.0
            weight, bias = _folded(cast(ConvUnit, unit))
            self.convolve.append(_depthwise(weight, bias, rows, factor))
            spatial = cast(SpatialWeighting, spatial)
            weight, bias = _folded(spatial.conv1)
            units = _padded(len(bias))
            self.spatial_reduce.append(_pointwise(weight / factor, bias, units, rows))
            weight, bias = _folded(spatial.conv2)
            self.spatial_gates.append(_pointwise(weight, bias, rows, units, OPEN))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        height, width = maps[-1].shape[-2:]
        parts = [conv(average_pool_to(x, (height, width))) for conv, x in zip(self.reduce, maps, strict=True)]
        hidden = reduce(torch.add, parts).relu()
        found: list[Tensor] = []
        for x, gate, convolve, squeeze, spatial in zip(
            maps, self.gates, self.convolve, self.spatial_reduce, self.spatial_gates, strict=True
        ):
            x = x * upsample_nearest(gate(hidden).sigmoid(), x.shape[-1] // width)
            x = convolve(x)
            mean = nn.functional.avg_pool2d(x, x.shape[-2:])
            weights = spatial(squeeze(mean).relu()).sigmoid()
            found.append(x * nn.functional.interpolate(weights, x.shape[-2:]))
        return found


class FastFuse(Exchange):
    """`Fuse` with its factors in the weights."""

    def __init__(self, fuse: Fuse, orders: Sequence[Order]) -> None:
        nn.ModuleList.__init__(self)
        for target, row in enumerate(fuse):
            paths = nn.ModuleList()
            for source, path in enumerate(cast(nn.ModuleList, row)):
                factor = 1.0
                if source == 0:
                    factor = 2.0
                elif target == 0 and fuse.halved:
                    factor = 0.5
                paths.append(_path(path, orders[source], orders[target], factor))
            self.append(paths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        finest = maps[0] + self._sum_from_coarser(0, maps)
        found = [finest.relu()]
        for target in range(1, len(maps)):
            y = maps[target] + self._apply_path(0, target, finest)
            for source in range(1, target):
                y = y + self._apply_path(source, target, maps[source])
            if target < len(maps) - 1:
                y = y + self._sum_from_coarser(target, maps)
            found.append(y.relu())
        return found


class FastHead(IterativeHead):
    """`IterativeHead` for maps of these orders; its result is in that of the trained network, without padding."""

    def __init__(self, head: IterativeHead, orders: Sequence[Order]) -> None:
        nn.Module.__init__(self)
        coarse_first = list(reversed(orders))
        channels = int((orders[0] >= 0).sum())
        outputs = [*coarse_first[1:], torch.arange(channels)]
        self.projects = nn.ModuleList()
        for project, source, target in zip(head.projects, coarse_first, outputs, strict=True):
            project = cast(SeparableConv, project)
            depthwise = _depthwise(*_folded(project.depthwise_conv), source)
            pointwise = _pointwise(*_folded(project.pointwise_conv), target, source)
            self.projects.append(nn.Sequential(depthwise, pointwise, nn.ReLU()))


class Restored(nn.Module):
    """Another head, which gets maps in the order of the trained network, without padding."""

    def __init__(self, head: nn.Module, orders: Sequence[Order]) -> None:
        super().__init__()
        self.head = head
        for branch, order in enumerate(orders):
            self.register_buffer(f"places{branch}", torch.argsort(order)[int((order < 0).sum()) :])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.head([x.index_select(1, getattr(self, f"places{branch}")) for branch, x in enumerate(maps)])


def _stem(stem: Stem) -> tuple[FastStem, Order]:
    weight, bias = _folded(stem.conv1)
    halves = [_conv(w, b, stem.conv1.conv) for w, b in zip(weight.chunk(2), bias.chunk(2), strict=True)]
    first = nn.Sequential(halves[0], nn.ReLU(), *_unit(stem.branch1[0]), *_unit(stem.branch1[1]))
    second = nn.Sequential(
        halves[1], nn.ReLU(), *_unit(stem.expand_conv), *_unit(stem.depthwise_conv), *_unit(stem.linear_conv)
    )
    channels = 2 * len(halves[0].bias)  # pyright: ignore[reportArgumentType]
    return FastStem(first, second), torch.cat((torch.arange(0, channels, 2), torch.arange(1, channels, 2)))


def _unit(unit: nn.Module) -> list[nn.Module]:
    unit = cast(ConvUnit, unit)
    return [_conv(*_folded(unit), unit.conv), unit.activate]


def _transition(transition: Transition, orders: Sequence[Order]) -> tuple[FastTransition, list[Order]]:
    inputs = [*orders, orders[-1]]
    steps: list[nn.Module] = []
    outputs: list[Order] = []
    for step, order in zip(transition, inputs, strict=True):
        if isinstance(step, nn.Identity):
            steps.append(nn.Identity())
            outputs.append(order)
            continue
        layers = _flat(step)
        new = _padded(cast(nn.Conv2d, layers[2]).out_channels)
        steps.append(_separable(layers, order, new, 1.0))
        outputs.append(new)
    return FastTransition(steps), outputs


def _flat(step: nn.Module) -> list[nn.Module]:
    return [layer for layer in step.modules() if not isinstance(layer, nn.Sequential)]


def _path(path: nn.Module, source: Order, target: Order, factor: float) -> nn.Module:
    """Layers from one branch to another, the last convolution times `factor`."""
    if isinstance(path, nn.Identity):
        return nn.Identity()
    layers = _flat(path)
    if len(layers) == 2:
        weight, bias = _folded_pair(layers[0], layers[1])
        return _pointwise(weight * factor, bias * factor, target, source)
    # Depthwise, norm, pointwise, norm for each halving, with a ReLU between two of them.
    steps: list[nn.Module] = []
    starts = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    for start, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        is_last = end == len(layers)
        steps += list(_separable(layers[start:end], source, target if is_last else source, factor if is_last else 1.0))
    return nn.Sequential(*steps)


def _separable(layers: Sequence[nn.Module], source: Order, target: Order, factor: float) -> nn.Sequential:
    """Depthwise, norm, pointwise, norm and, where there is one, ReLU -> the same with merged norms."""
    weight, bias = _folded_pair(layers[0], layers[1])
    depthwise = _depthwise(weight, bias, source, stride=cast(nn.Conv2d, layers[0]).stride[0])
    weight, bias = _folded_pair(layers[2], layers[3])
    pointwise = _pointwise(weight * factor, bias * factor, target, source)
    return nn.Sequential(depthwise, pointwise, *([nn.ReLU()] if len(layers) == 5 else []))


def _shuffled(order: Order) -> Order:
    """Order of a map before a block -> after its shuffle."""
    half = int((order >= 0).sum()) // 2
    shuffled = torch.where(order < half, 2 * order, 2 * (order - half) + 1)
    return torch.where(order < 0, -1, shuffled)


def _worked(order: Order) -> Order:
    """Order of a map -> of each channel its number in the half that a block works on, -1 for those passed on."""
    half = int((order >= 0).sum()) // 2
    return torch.where(order >= half, order - half, -1)


def _padded(channels: int) -> Order:
    """0, 1, ... channels - 1, padded to a multiple of 16."""
    order = torch.full((-(-channels // MULTIPLE) * MULTIPLE,), -1)
    order[:channels] = torch.arange(channels)
    return order


def _take(values: Tensor, order: Order, dim: int, fill: float = 0.0) -> Tensor:
    """Values -> those at the places of `order` along `dim`; `fill` at -1."""
    taken = values.index_select(dim, order.clamp(min=0))
    shape = [1] * values.dim()
    shape[dim] = -1
    return torch.where((order < 0).view(shape), fill, taken)


def _folded(unit: ConvUnit) -> tuple[Tensor, Tensor]:
    return _folded_pair(unit.conv, unit.bn)


def _folded_pair(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    conv = cast(nn.Conv2d, conv)
    return fold_norm(conv.weight, conv.bias, norm)


def _pointwise(weight: Tensor, bias: Tensor | None, rows: Order, columns: Order, fill: float = 0.0) -> nn.Conv2d:
    """Weight (O, I, 1, 1) and bias (O,) -> 1x1 convolution between maps of these orders; bias `fill` at -1."""
    weight = _take(_take(weight, rows, 0), columns, 1)
    conv = nn.Conv2d(len(columns), len(rows), 1, bias=bias is not None)
    conv.weight.data = weight.float()
    if bias is not None:
        conv.bias.data = _take(bias, rows, 0, fill).float()  # pyright: ignore[reportOptionalMemberAccess]
    return conv


def _depthwise(weight: Tensor, bias: Tensor, order: Order, factor: float = 1.0, stride: int = 1) -> nn.Conv2d:
    """Weight (C, 1, 3, 3) and bias (C,) -> depthwise convolution of a map of this order, times `factor`.

    Channels at -1 are copied.
    """
    copy = torch.zeros_like(weight[:1])
    copy[..., 1, 1] = 1
    taken = torch.where((order < 0)[:, None, None, None], copy, weight[order.clamp(min=0)])
    conv = nn.Conv2d(len(order), len(order), 3, stride, 1, groups=len(order))
    conv.weight.data = (factor * taken).float()
    conv.bias.data = (factor * _take(bias, order, 0)).float()  # pyright: ignore[reportOptionalMemberAccess]
    return conv


def _conv(weight: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """Weight and bias -> convolution with the stride and groups of another one, padded by half its kernel."""
    kernel = weight.shape[-1]
    channels = weight.shape[1] * like.groups
    conv = nn.Conv2d(channels, len(weight), kernel, like.stride[0], kernel // 2, groups=like.groups)
    conv.weight.data = weight.float()
    conv.bias.data = bias.float()  # pyright: ignore[reportOptionalMemberAccess]
    return conv
