"""The networks: `create_model` builds one by name; being in `NETWORKS` is being tested."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from featherpose.errors import ModelError, did_you_mean
from featherpose.networks import (
    hrnet,
    inverted_pose,
    lite_hrnet,
    mobilenet_v2,
    naive_lite_hrnet,
    rep_pose,
    shufflenet_v2,
    simple_baseline,
    tokenpose,
)
from featherpose.networks.initialise import initialise

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lite_hrnet_18": lite_hrnet.lite_hrnet_18,
    "lite_hrnet_30": lite_hrnet.lite_hrnet_30,
    "cbam_lite_hrnet_18": lite_hrnet.cbam_lite_hrnet_18,
    "cbam_lite_hrnet_30": lite_hrnet.cbam_lite_hrnet_30,
    "naive_lite_hrnet_18": naive_lite_hrnet.naive_lite_hrnet_18,
    "wider_naive_lite_hrnet_18": naive_lite_hrnet.wider_naive_lite_hrnet_18,
    "hrnet_w32": hrnet.hrnet_w32,
    "hrnet_w48": hrnet.hrnet_w48,
    "simple_baseline_resnet50": simple_baseline.simple_baseline_resnet50,
    "simple_baseline_resnet101": simple_baseline.simple_baseline_resnet101,
    "simple_baseline_resnet152": simple_baseline.simple_baseline_resnet152,
    "mobilenet_v2": mobilenet_v2.mobilenet_v2,
    "shufflenet_v2": shufflenet_v2.shufflenet_v2,
    "tokenpose_t": tokenpose.tokenpose_t,
    "tokenpose_s_v1": tokenpose.tokenpose_s_v1,
    "tokenpose_s_v2": tokenpose.tokenpose_s_v2,
    "tokenpose_b": tokenpose.tokenpose_b,
    "tokenpose_l_d24": tokenpose.tokenpose_l_d24,
    "rep_pose": rep_pose.rep_pose,
    "inverted_pose": inverted_pose.inverted_pose,
}


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(NETWORKS)


def create_model(name: str, num_keypoints: int = 17, **options: object) -> nn.Module:
    """Name, number of joints K and the network's own options -> a freshly initialised network in train mode.

    Its input is normalised float (N, 3, H, W), its output heatmaps (N, K, H / stride, W / stride).
    """
    if name not in NETWORKS:
        raise ModelError(f"Unknown model {name!r}.{did_you_mean(name, NETWORKS)}")
    known = [p for p in inspect.signature(NETWORKS[name]).parameters if p != "num_keypoints"]
    for option in options:
        if option not in known:
            raise ModelError(
                f"{name} has no option {option!r}.{did_you_mean(option, known) if known else ' It has none.'}"
            )
    if num_keypoints < 1:
        raise ModelError(f"num_keypoints is {num_keypoints}; a network needs at least 1.")
    model = NETWORKS[name](num_keypoints, **options)
    initialise(model)
    return model
