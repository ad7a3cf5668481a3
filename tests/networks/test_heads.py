"""Each head of CBAM-LiteHRNet against its literal form, and invalid input sizes."""

from __future__ import annotations

import copy
from functools import partial

import pytest

torch = pytest.importorskip("torch")
from torch.nn.functional import interpolate

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.attention import ATTENTIONS, create_attention
from featherpose.networks.cbam_lite_hrnet import HEADS

pytestmark = pytest.mark.torch

CHANNELS = (16, 32, 64, 128)


def bilinear(x, size):
    return interpolate(x, size, mode="bilinear", align_corners=False)


def iterative_steps(neck, maps):
    """Results of the published iterative head, coarsest first (its code, `IterativeHead.forward`)."""
    steps = []
    for project, x in zip(neck.projects, reversed(maps), strict=True):
        if steps:
            x = x + interpolate(steps[-1], x.shape[-2:], mode="bilinear", align_corners=True)
        steps.append(project(x))
    return steps


def attended(blocks, maps):
    return [attend(x) for attend, x in zip(blocks, maps, strict=True)]


def literal_iterative(neck, head, maps):
    return head.norm(head.final_layer(iterative_steps(neck, attended(neck.attention, maps))[-1]))


def literal_concat(neck, head, maps):
    full = [interpolate(x, maps[0].shape[-2:], mode="nearest") for x in maps]
    return head.norm(head.final_layer(torch.cat(attended(head.attention, full), dim=1)))


def literal_native(neck, head, maps):
    full = [bilinear(x, maps[0].shape[-2:]) for x in attended(head.attention, maps)]
    return head.norm(head.final_layer(torch.cat(full, dim=1)))


def literal_iterative_concat(neck, head, maps):
    return literal_native(neck, head, iterative_steps(neck, maps)[::-1])


LITERAL = {
    "iterative": literal_iterative,
    "concat": literal_concat,
    "native": literal_native,
    "iterative_concat": literal_iterative_concat,
}
CASES = [(name, "cbam", mode) for name in LITERAL for mode in ("eval", "train")]
# Upsampling after the attention is exact for every block only because each computes the same at both resolutions.
CASES += [("concat", attention, mode) for attention in sorted(ATTENTIONS) for mode in ("eval", "train")]


class Whole(torch.nn.Module):
    """Neck and head of a network."""

    def __init__(self, name, attention="cbam", norm=True):
        super().__init__()
        create = partial(create_attention, attention, open_gates=True)
        self.neck, self.head = HEADS[name](CHANNELS, 17, create, norm)

    def forward(self, maps):
        return self.head(self.neck(maps) if self.neck else maps)


def backbone_maps(seed=0):
    """Maps like a backbone's: ReLU outputs, hence many exact zeros, at four resolutions."""
    rng = torch.Generator().manual_seed(seed)
    shapes = [(2, c, 32 // 2**i, 24 // 2**i) for i, c in enumerate(CHANNELS)]
    return [torch.randn(s, generator=rng, dtype=torch.float64).relu().requires_grad_() for s in shapes]


def outputs_and_gradients(forward, module, maps):
    """Output, gradients of maps and parameters, buffers afterwards."""
    output = forward(maps)
    direction = torch.sin(torch.arange(output.numel(), dtype=output.dtype)).reshape(output.shape)
    wanted = [*maps, *module.parameters()]
    gradients = torch.autograd.grad((output * direction).sum(), wanted)
    return [output, *gradients, *(b.double() for b in module.buffers())]


def test_every_head_has_a_literal_form():
    assert list(LITERAL) == list(HEADS)


@pytest.mark.parametrize(("name", "attention", "mode"), dict.fromkeys(CASES))
def test_head_equals_its_literal_form(filled, name, attention, mode):
    fast = filled(Whole(name, attention), 1.0).train(mode == "train")
    slow = copy.deepcopy(fast)
    maps = backbone_maps()
    found = outputs_and_gradients(fast, fast, maps)
    wanted = outputs_and_gradients(lambda m: LITERAL[name](slow.neck, slow.head, m), slow, maps)
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1.0, b.abs().max().item())


def test_literal_forms_of_two_heads_differ(filled):
    head = filled(Whole("concat"), 1.0).eval().head
    with torch.no_grad():
        right = literal_concat(None, head, backbone_maps())
        assert (literal_native(None, head, backbone_maps()) - right).abs().max() > 1e-3


def test_open_gates_change_nothing_at_the_start():
    """With the weights of Lite-HRNet, the iterative head gives its heatmaps, with all attentions and without."""
    torch.manual_seed(0)
    plain = create_network("lite_hrnet_18", width=16).eval()
    image = torch.randn(1, 3, 64, 64)
    for attention in ATTENTIONS:
        options = {"head": "iterative", "fuse": "published", "attention": attention, "open_gates": True}
        network = create_network("cbam_lite_hrnet_18", width=16, **options).eval()
        missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
        assert all("head_layer.attention" in name for name in missing)
        assert bool(missing) == (attention != "none")
        assert torch.equal(network(image), plain(image)), attention


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
