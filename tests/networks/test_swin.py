"""Swin-T: counts, shifted windows against a loop over tokens, initialization."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.counts import count_parameters
from featherpose.networks.swin import (
    WINDOW,
    PatchMerging,
    WindowAttention,
    merge_windows,
    position_bias_indices,
    split_windows,
)

pytestmark = pytest.mark.torch

# torchvision: swin_t has 28,288,354 parameters, 769,000 of them in the classifier
# (https://pytorch.org/vision/stable/models/generated/torchvision.models.swin_t.html); timm has the same count.
BACKBONE = 28_288_354 - (768 * 1000 + 1000)


def test_parameter_count():
    with torch.device("meta"):
        model = create_network("swin_t")
    assert count_parameters(model.backbone) == BACKBONE
    assert count_parameters(model) == BACKBONE + 5_248_785


def attention(shift, heads=2, channels=8):
    torch.manual_seed(0)
    layer = WindowAttention(channels, heads, shift).double()
    torch.nn.init.normal_(layer.relative_position_bias_table)
    return layer


def looped_attention(layer, x):
    """For every token: attention over the tokens of its window that are also its neighbors in the image."""
    _, height, width, channels = x.shape
    full = [-(-side // WINDOW) * WINDOW for side in (height, width)]
    shift = [layer.shift if side > WINDOW else 0 for side in full]
    padded = torch.zeros(x.shape[0], *full, channels, dtype=x.dtype)
    padded[:, :height, :width] = x
    query, key, value = layer.qkv(padded).chunk(3, dim=-1)

    def window(place):
        """Windows begin at -(7 - shift), so the first and the last are narrower."""
        return tuple((p + WINDOW - s) // WINDOW if s else p // WINDOW for p, s in zip(place, shift, strict=True))

    places = list(itertools.product(*map(range, full)))
    size = channels // layer.heads
    output = torch.zeros_like(padded)
    for here in itertools.product(range(height), range(width)):
        others = [p for p in places if window(p) == window(here)]
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            scores = torch.stack(
                [
                    (query[:, *here, part] * key[:, *there, part]).sum(-1) / size**0.5
                    + layer.relative_position_bias_table[
                        (here[0] - there[0] + WINDOW - 1) * (2 * WINDOW - 1) + here[1] - there[1] + WINDOW - 1, head
                    ]
                    for there in others
                ],
                dim=1,
            )
            taken = torch.stack([value[:, *there, part] for there in others], dim=1)
            output[:, *here, part] = (scores.softmax(1)[..., None] * taken).sum(1)
    return layer.proj(output)[:, :height, :width]


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [(14, 14), (8, 6), (2, 3), (7, 15)], ids=str)
def test_window_attention_matches_looped_version(size, shift):
    layer, x = attention(shift), torch.randn(2, *size, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), looped_attention(layer, x), rtol=1e-9, atol=1e-9)


def test_merge_windows_inverts_split_windows():
    x = torch.randn(2, 14, 21, 3)
    windows = split_windows(x)
    assert windows.shape == (2, 6, 49, 3)
    assert torch.equal(windows[:, 1].unflatten(1, (7, 7)), x[:, :7, 7:14])
    assert torch.equal(merge_windows(windows, (14, 21)), x)


def test_position_bias_table_is_fully_used():
    found = position_bias_indices()
    assert sorted(found.unique().tolist()) == list(range(13 * 13))
    assert (found.diagonal() == 6 * 13 + 6).all()


def test_patch_merging_order_is_the_published_one():
    """Top left, bottom left, top right, bottom right (official code)."""
    layer = PatchMerging(1)
    layer.norm = torch.nn.Identity()
    layer.reduction = torch.nn.Identity()
    assert layer(torch.arange(4.0).view(1, 2, 2, 1)).flatten().tolist() == [0, 2, 1, 3]


def test_every_second_block_is_shifted():
    with torch.device("meta"):
        backbone = create_network("swin_t").backbone
    stages = [backbone[number] for number in (1, 3, 5, 7)]
    shifts = [[block.attn.shift for block in stage] for stage in stages]
    assert shifts == [[0, 3], [0, 3], [0, 3, 0, 3, 0, 3], [0, 3]]


def test_initialization_is_the_published_one():
    torch.manual_seed(0)
    backbone = create_network("swin_t").backbone
    block = backbone[1][0]
    for weight in (block.mlp[0].weight, block.attn.qkv.weight, block.attn.relative_position_bias_table):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp[0].bias.abs().max() == 0
    bound = (3 * 4 * 4) ** -0.5  # PyTorch's default for a convolution
    assert bound * 0.9 < backbone[0][0].weight.abs().max() <= bound
