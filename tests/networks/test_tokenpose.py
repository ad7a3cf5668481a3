"""TokenPose against the published code: names, outputs; initialization; supported input sizes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights
from featherpose.networks.tokenpose import split_patches
from featherpose.size import Size
from tests.families import shorten

pytestmark = pytest.mark.torch

NAMES = ["tokenpose_t", "tokenpose_s_v1", "tokenpose_s_v2", "tokenpose_b", "tokenpose_l_d24"]
TOLERANCE = 1e-9  # float64, in standard deviations of the output


def create_on_meta(name, **options):
    with torch.device("meta"):
        return create_network(name, **options)


def without_prefix(name):
    """A tensor name without its prefix for backbone or head, ours or the published one."""
    return name.partition(".")[2]


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_matches_the_published_one(reference, name):
    ours = {without_prefix(k): list(v.shape) for k, v in create_on_meta(name).state_dict().items()}
    published = reference(name).facts["state_dict"]
    assert ours == {without_prefix(k): shape for k, shape in published}
    assert len(ours) == len(published)


@pytest.fixture(scope="module", params=NAMES)
def published(request, reference):
    """A published network's record, and our network with its weights, loaded by their official names."""
    record = reference(request.param)
    model = create_network(request.param)
    table = model.keypoint_head.pos_embedding.clone()
    load_weights(model, {**record.weights(), record.facts["pos_embedding"]["name"]: table})
    return record, model.eval()


def test_position_encoding_is_the_published_one(published):
    record, model = published
    table, fixture = model.keypoint_head.pos_embedding.float(), record.facts["pos_embedding"]
    assert list(table.shape) == fixture["shape"]
    np.testing.assert_array_equal(table.flatten()[fixture["idx"]].numpy(), np.float32(fixture["val"]))


def test_float32_output_is_within_tolerance(published, make_image):
    record, model = published
    with torch.no_grad():
        output = model.float()(make_image(11, 1, 256, 192).float()).numpy()
    assert record.max_error(output, "out_256x192") < 2e-5


def test_output_matches_the_published_one(published, make_image):
    record, model = published
    with torch.no_grad():
        output = model.double()(make_image(11, 1, 256, 192)).numpy()
    assert record.max_error(output, "out_256x192") < TOLERANCE
    assert record.max_error_from_float32(output, "out_256x192") < 3e-6


def test_patches_are_in_row_major_order():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = split_patches(x, (2, 3))
    assert patches.shape == (2, 4, 18)
    assert torch.equal(patches[1, 1], x[1, :, 0:2, 3:6].permute(1, 2, 0).flatten())
    assert torch.equal(patches[0, 2], x[0, :, 2:4, 0:3].permute(1, 2, 0).flatten())


def test_initialization_is_the_published_one():
    torch.manual_seed(0)
    model = create_network("tokenpose_s_v1")
    head = model.keypoint_head
    linear = [m for m in head.modules() if isinstance(m, torch.nn.Linear)]
    assert all(m.weight.std().item() == pytest.approx(0.02, rel=0.02) for m in linear)
    assert head.keypoint_token.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(p.abs().max() == 0 for n, p in head.named_parameters() if n.endswith("bias"))
    assert model.backbone.layer1[0].conv2.weight.std().item() == pytest.approx(0.001, rel=0.02)


PUBLISHED_SIZES = [("256x192", (4, 3), 256), ("256x256", (4, 4), 256), ("384x288", (6, 4), 288)]


@pytest.mark.parametrize(("size", "patch", "tokens"), PUBLISHED_SIZES)
def test_patch_sizes_are_the_published_ones(size, patch, tokens):
    head = create_on_meta("tokenpose_l_d24", input_size=size).keypoint_head
    assert head.pos_embedding.shape == (1, tokens, 192)
    assert head.patch_to_embedding.in_features == 48 * patch[0] * patch[1]
    assert [tuple(p.shape) for p in head.mlp_head.parameters()][2:] == [
        (Size.of(size).area // 16, 576),
        (Size.of(size).area // 16,),
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["256x256", Size(height=96, width=64), {"height": 64, "width": 96}], ids=str)
def test_every_variant_supports_other_input_sizes(name, size, monkeypatch):
    shorten(monkeypatch)
    model = create_on_meta(name, num_keypoints=5, input_size=size)
    assert model.fixed_size == Size.of(size)
    height, width = Size.of(size).shape
    assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 5, height // 4, width // 4)


def test_input_of_other_size_is_refused():
    model = create_on_meta("tokenpose_t")
    with pytest.raises(ModelError) as caught:
        model(torch.empty(1, 3, 256, 256, device="meta"))
    assert str(caught.value) == (
        "The input is 256x256 (height x width); this network is built for 256x192. For this input, build it with the "
        "option input_size=256x256."
    )


def test_weights_of_other_input_size_are_refused():
    weights = create_on_meta("tokenpose_t").state_dict()
    with pytest.raises(
        ModelError, match=r"with a different shape \(keypoint_head.patch_to_embedding.weight \(192, 576\), "
    ):
        load_weights(create_on_meta("tokenpose_t", input_size="256x256"), weights)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (
            "256x224",
            ModelError,
            "input_size is 256x224 .*, which cannot be split into patches of 16x12 pixels; 256x192, ",
        ),
        ("250x192", ModelError, "input_size is 250x192 .*; both must be multiples of 32"),
        ("256x0", ModelError, "input_size: height is 256 and width is 0; wanted whole numbers above 0"),
        ((192,), ModelError, r"input_size: \(192,\) is not a size; wanted height x width"),
        ([256, 192], ModelError, r"input_size: \[256, 192\] is not a size; wanted height x width"),
        (192, ModelError, "input_size: 192 is not a size; wanted height x width"),
        ("192x256", ModelError, r"input_size: 192x256 is wider than tall; .*did you mean 256x192\?"),
    ],
)
def test_unsupported_input_sizes_are_refused(size, error, message):
    with pytest.raises(error, match=message):
        create_network("tokenpose_b", input_size=size)
