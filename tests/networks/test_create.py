"""Building by name: errors for wrong names and options, and the initial weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import NETWORKS, create_network

pytestmark = pytest.mark.torch

CBAM = "cbam_lite_hrnet_18"
REFUSED = [
    ("cbam_lite_hrnet", {}, "Unknown network 'cbam_lite_hrnet'. Did you mean 'cbam_lite_hrnet_"),
    ("", {}, "Unknown network ''. Known: cbam_lite_hrnet_18, "),
    (CBAM, {"atention": "se"}, f"{CBAM} has no option 'atention'. Did you mean 'attention'"),
    ("lite_hrnet_18", {"attention": "cbam"}, "lite_hrnet_18 has no option 'attention'. Known: fuse, width."),
    ("hrnet_w23", {}, "Unknown network 'hrnet_w23'. Did you mean 'hrnet_w32'"),
    ("hrnet_w32", {"attention": "cbma"}, "Unknown attention 'cbma'. Did you mean 'cbam'?"),
    ("hrnet_w32", {"width": 48}, "hrnet_w32 has no option 'width'. Known: attention."),
    (
        "simple_baseline_resnet18",
        {},
        "Unknown network 'simple_baseline_resnet18'. Did you mean 'simple_baseline_resnet1",
    ),
    ("mobilenet_v2", {"width": 1}, "mobilenet_v2 has no option 'width'. It has no options."),
    ("tokenpose_l", {}, "Unknown network 'tokenpose_l'. Did you mean 'tokenpose_"),
    ("tokenpose_t", {"patch": 4}, "tokenpose_t has no option 'patch'. Known: input_size."),
    (CBAM, {"attention": "cbma"}, "Unknown attention 'cbma'. Did you mean 'cbam'?"),
    (CBAM, {"attention_at": "heads"}, "Unknown attention_at 'heads'. Did you mean 'head'?"),
    (CBAM, {"fuse": "publised"}, "Unknown fuse 'publised'. Did you mean 'published'?"),
    (CBAM, {"head": "iterativ"}, "Unknown head 'iterativ'. Did you mean 'iterative'"),
    (CBAM, {"width": 33}, "width is 33; it must be even and at least 8, for example width=40."),
    (CBAM, {"width": 0}, "width is 0; it must be"),
    (CBAM, {"num_keypoints": 0}, "num_keypoints is 0; it must be at least 1."),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_wrong_names_and_options_are_refused(name, options, message):
    with pytest.raises(ModelError) as caught:
        create_network(name, **options)
    assert str(caught.value).startswith(message)


PAPERS = {
    *("cbam_lite_hrnet_18", "cbam_lite_hrnet_30", "lite_hrnet_18", "lite_hrnet_30"),
    *("naive_lite_hrnet_18", "wider_naive_lite_hrnet_18", "hrnet_w32", "hrnet_w48"),
    *("simple_baseline_resnet50", "simple_baseline_resnet101", "simple_baseline_resnet152"),
    *("mobilenet_v2", "shufflenet_v2"),
    *("tokenpose_t", "tokenpose_s_v1", "tokenpose_s_v2", "tokenpose_b", "tokenpose_l_d24"),
}


def test_all_networks_of_the_papers_are_listed():
    assert set(NETWORKS) >= PAPERS


def test_attention_at_block_is_in_every_block():
    model = create_network(CBAM, width=8, attention_at="block")
    assert not [n for n, _ in model.keypoint_head.named_parameters() if "attention" in n]
    gates = [n for n, _ in model.named_modules() if n.endswith("spatial_weighting.0.spatial")]
    assert len(gates) == 16


def test_initial_gates_are_half_heatmaps_near_zero():
    torch.manual_seed(0)
    model = create_network("cbam_lite_hrnet_18", width=16)
    gates = []
    for module in model.modules():
        if isinstance(module, torch.nn.Sigmoid):
            module.register_forward_hook(lambda _m, _i, out: gates.append(out.mean().item()))
    heatmaps = model(torch.randn(4, 3, 64, 64))
    assert len(gates) == 16 + 16 * 2 + 4 * 2 + 8
    assert 0.45 < min(gates) <= max(gates) < 0.55
    assert heatmaps.abs().mean() < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_no_initial_channel_gate_is_dead(seed):
    torch.manual_seed(seed)
    model = create_network(CBAM, width=32)
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    gates = [p for n, p in model.named_parameters() if ".channel.reduce.weight" in n]
    assert len(gates) == 4
    assert all(p.grad.abs().max() > 0 for p in gates)
