"""Networks of which one is tested for all, and deep networks with few layers of each kind."""

import pytest

from featherpose.networks import NETWORKS, hrnet, lite_hrnet, simple_baseline, swin, tokenpose

SAME_LAYERS = {
    "cbam_lite_hrnet_30": "cbam_lite_hrnet_18",
    "hrnet_w48": "hrnet_w32",
    "lite_hrnet_30": "lite_hrnet_18",
    "mobilenet_v3_large": "mobilenet_v3_small",
    "simple_baseline_resnet101": "simple_baseline_resnet50",
    "simple_baseline_resnet152": "simple_baseline_resnet50",
    "tokenpose_b": "tokenpose_l_d24",
    "tokenpose_s_v1": "tokenpose_s_v2",
    "wider_naive_lite_hrnet_18": "naive_lite_hrnet_18",
}
"""Name of a network -> name of the one that is tested for it; a contract compares the kinds of their layers."""

TESTED = sorted(set(NETWORKS) - set(SAME_LAYERS))


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Deep networks are built with each kind of layer once or twice, for what does not depend on their depth."""
    for depth in lite_hrnet.MODULES:
        patch.setitem(lite_hrnet.MODULES, depth, (1, 1, 1))
    patch.setattr(lite_hrnet, "BLOCKS_PER_MODULE", 1)
    patch.setattr(hrnet, "MODULES", (1, 1, 1))
    patch.setattr(hrnet, "BLOCKS_PER_MODULE", 1)
    for depth in simple_baseline.BLOCKS:
        patch.setitem(simple_baseline.BLOCKS, depth, (2, 1, 1, 1))
    patch.setattr(swin, "DEPTHS", (2, 2, 2, 2))
    transformer = tokenpose.Transformer
    patch.setattr(tokenpose, "Transformer", lambda depth, **options: transformer(2, **options))
