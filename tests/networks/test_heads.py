"""The fast attention head against the literal form, its options, and invalid input sizes."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.attention import ATTENTIONS
from featherpose.networks.heads import UPSAMPLINGS, AttentionHead

pytestmark = pytest.mark.torch

CHANNELS = (16, 32, 64, 128)
CASES = [(a, u, m) for a in sorted(ATTENTIONS) for u in UPSAMPLINGS for m in ("eval", "train")]


def literal_forward(head, maps):
    """Upsample every map, apply attention, concatenate, one 1x1 convolution: the paper's order."""
    align = {} if head.upsample == "nearest" else {"align_corners": False}
    size = maps[0].shape[-2:]
    full = [torch.nn.functional.interpolate(x, size, mode=head.upsample, **align) for x in maps]
    gated = [attend(x) for attend, x in zip(head.attention, full, strict=True)]
    return head.final_layer(torch.cat(gated, dim=1))


def backbone_maps(seed=0):
    """Maps like a backbone's: ReLU outputs, hence many exact zeros, at four resolutions."""
    rng = torch.Generator().manual_seed(seed)
    shapes = [(2, c, 32 // 2**i, 24 // 2**i) for i, c in enumerate(CHANNELS)]
    return [torch.randn(s, generator=rng, dtype=torch.float64).relu().requires_grad_() for s in shapes]


def outputs_and_gradients(forward, head, maps):
    """Output, gradients of maps and parameters, buffers afterwards."""
    output = forward(maps)
    direction = torch.sin(torch.arange(output.numel(), dtype=output.dtype)).reshape(output.shape)
    wanted = [*maps, *head.parameters()]
    gradients = torch.autograd.grad((output * direction).sum(), wanted)
    return [output, *gradients, *(b.double() for b in head.buffers())]


@pytest.mark.parametrize(("attention", "upsample", "mode"), CASES)
def test_fast_head_equals_the_literal_form(filled, attention, upsample, mode):
    head = filled(AttentionHead(CHANNELS, 17, attention=attention, upsample=upsample), 1.0).train(mode == "train")
    oracle = copy.deepcopy(head)
    maps = backbone_maps()
    fast = outputs_and_gradients(head, head, maps)
    slow = outputs_and_gradients(lambda m: literal_forward(oracle, m), oracle, maps)
    for a, b in zip(fast, slow, strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1.0, b.abs().max().item())


def test_reference_detects_wrong_upsampling(filled):
    head = filled(AttentionHead(CHANNELS, 17), 1.0).eval()
    with torch.no_grad():
        right = literal_forward(head, backbone_maps())
        head.upsample = "bilinear"
        assert (literal_forward(head, backbone_maps()) - right).abs().max() > 1e-3


def test_unknown_upsample_is_refused():
    with pytest.raises(ModelError, match=r"Unknown upsample 'nearst'\. Did you mean 'nearest'\?"):
        AttentionHead(CHANNELS, 17, upsample="nearst")


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (250, 192, r"250x192 \(height x width\); both must be multiples of 32, for example 256x192"),
        (128, 100, "128x100 .* for example 128x96"),
        (16, 16, "16x16 .* for example 32x32"),
    ],
)
def test_input_size_must_be_a_multiple_of_32(height, width, message):
    with pytest.raises(ModelError, match=message):
        create_network("cbam_lite_hrnet_18", width=8)(torch.zeros(1, 3, height, width))
