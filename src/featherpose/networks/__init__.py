"""The networks: `create_network` builds one for poses by name, `create_detector` one that detects people.

The contract tests cover every network in `NETWORKS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import get_type_hints

from torch import nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks import (
    cbam_lite_hrnet,
    cpm,
    feather_detect,
    feather_pose,
    hrnet,
    inverted_pose,
    lite_hrnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    naive_lite_hrnet,
    rep_pose,
    shufflenet_v1,
    shufflenet_v2,
    simple_baseline,
    swin,
    tokenpose,
)
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.initialize import initialize

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lite_hrnet_18": lite_hrnet.lite_hrnet_18,
    "lite_hrnet_30": lite_hrnet.lite_hrnet_30,
    "cbam_lite_hrnet_18": cbam_lite_hrnet.cbam_lite_hrnet_18,
    "cbam_lite_hrnet_30": cbam_lite_hrnet.cbam_lite_hrnet_30,
    "naive_lite_hrnet_18": naive_lite_hrnet.naive_lite_hrnet_18,
    "wider_naive_lite_hrnet_18": naive_lite_hrnet.wider_naive_lite_hrnet_18,
    "hrnet_w32": hrnet.hrnet_w32,
    "hrnet_w48": hrnet.hrnet_w48,
    "simple_baseline_resnet50": simple_baseline.simple_baseline_resnet50,
    "simple_baseline_resnet101": simple_baseline.simple_baseline_resnet101,
    "simple_baseline_resnet152": simple_baseline.simple_baseline_resnet152,
    "cpm": cpm.cpm,
    "mobilenet_v1": mobilenet_v1.mobilenet_v1,
    "mobilenet_v2": mobilenet_v2.mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3.mobilenet_v3_small,
    "mobilenet_v3_large": mobilenet_v3.mobilenet_v3_large,
    "shufflenet_v1": shufflenet_v1.shufflenet_v1,
    "shufflenet_v2": shufflenet_v2.shufflenet_v2,
    "swin_t": swin.swin_t,
    "tokenpose_t": tokenpose.tokenpose_t,
    "tokenpose_s_v1": tokenpose.tokenpose_s_v1,
    "tokenpose_s_v2": tokenpose.tokenpose_s_v2,
    "tokenpose_b": tokenpose.tokenpose_b,
    "tokenpose_l_d24": tokenpose.tokenpose_l_d24,
    "feather_pose": feather_pose.feather_pose,
    "rep_pose": rep_pose.rep_pose,
    "inverted_pose": inverted_pose.inverted_pose,
}
DETECTORS: dict[str, Callable[..., nn.Module]] = {"feather_detect": feather_detect.feather_detect}


def stride_of(name: str) -> int:
    """Name of a network -> input pixels per heatmap cell, read from the builder's return type without building it."""
    return getattr(get_type_hints(_builder(NETWORKS, name)).get("return"), "stride", PoseNetwork.stride)


def option_names(name: str) -> list[str]:
    """Name of a network -> its own options, read from the builder without building it; ModelError if unknown."""
    return _option_names(_builder(NETWORKS, name))


def check_options(name: str, options: Iterable[str]) -> None:
    """Name of a network and names of options -> ModelError where `create_network` would refuse one of them."""
    _check_options(name, _builder(NETWORKS, name), options)


def create_network(name: str, num_keypoints: int = 17, **options: object) -> nn.Module:
    """Name, number of keypoints K and the network's own options -> a freshly initialized network in train mode.

    Its input is a normalized float image (N, 3, H, W), its output heatmaps (N, K, H / stride, W / stride). A network
    with one loss per stage returns the heatmaps of all S stages in train mode, (S, N, K, H / stride, W / stride).
    ModelError for an unknown name or option.
    """
    return _create(NETWORKS, name, num_keypoints, options)


def create_detector(name: str, num_keypoints: int = 17, **options: object) -> nn.Module:
    """Name, number of keypoints K and the detector's own options -> a freshly initialized detector in train mode.

    Its input is a normalized float image (N, 3, H, W), its output `feather_detect.RawDetections`. ModelError for an
    unknown name or option.
    """
    return _create(DETECTORS, name, num_keypoints, options)


def _create(
    networks: dict[str, Callable[..., nn.Module]], name: str, num_keypoints: int, options: dict[str, object]
) -> nn.Module:
    build = _builder(networks, name)
    _check_options(name, build, options)
    if num_keypoints < 1:
        raise ModelError(f"num_keypoints is {num_keypoints}; it must be at least 1.")
    model = build(num_keypoints, **options)
    initialize(model)
    return model


def _option_names(build: Callable[..., nn.Module]) -> list[str]:
    return [name for name in inspect.signature(build).parameters if name != "num_keypoints"]


def _check_options(name: str, build: Callable[..., nn.Module], options: Iterable[str]) -> None:
    known = _option_names(build)
    for option in options:
        if option not in known:
            raise ModelError(
                f"{name} has no option {option!r}.{did_you_mean(option, known) if known else ' It has no options.'}"
            )


def _builder(networks: dict[str, Callable[..., nn.Module]], name: str) -> Callable[..., nn.Module]:
    if name not in networks:
        kind = "detector" if networks is DETECTORS else "network"
        raise ModelError(f"Unknown {kind} {name!r}.{did_you_mean(name, networks)}")
    return networks[name]
