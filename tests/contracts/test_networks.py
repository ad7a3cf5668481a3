"""What every network in the list keeps: being in the list is being tested."""

from __future__ import annotations

import copy
import inspect

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import NETWORKS, create_model, list_models, stride_of
from featherpose.networks.checkpoints import load_weights, save_weights

pytestmark = pytest.mark.torch

OPTIONS = [
    *(
        ("cbam_lite_hrnet_18", options)
        for options in (
            {"attention": "se"},
            {"attention": "coordinate"},
            {"attention": "none"},
            {"attention_at": "block"},
            {"upsample": "bilinear"},
            {"width": 32},
            {"fuse": "published"},
        )
    ),
    ("hrnet_w32", {"attention": "cbam"}),
    ("hrnet_w32", {"attention": "se"}),
    ("hrnet_w32", {"attention": "coordinate"}),
]
SMALL = (96, 64)  # pixels, width and height
HEAVY = {"cpm", "hrnet_w48", "simple_baseline_resnet101", "simple_baseline_resnet152"}


def variants():
    """Every network with its own options, but small where it is built for one size, and those of `OPTIONS`."""
    for name in list_models():
        built_for_one_size = "size" in inspect.signature(NETWORKS[name]).parameters
        yield name, {"size": SMALL} if built_for_one_size else {}
    yield from OPTIONS


def parameter(name, options):
    marks = [pytest.mark.slow] if name in HEAVY else []
    return pytest.param((name, options), id="-".join([name, *map(str, options.values())]), marks=marks)


@pytest.fixture(scope="module", params=[parameter(*variant) for variant in variants()])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def model(variant):
    torch.manual_seed(0)
    name, options = variant
    return create_model(name, 5, **options)


def crops(height=64, width=96, n=2, seed=0):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def size_of(model):
    return model.fixed_size or SMALL


@pytest.mark.parametrize("n", [1, 3])
def test_heatmaps_have_the_stated_stride(model, n):
    width, height = size_of(model)
    with torch.no_grad():
        heatmaps = model.eval()(crops(height, width, n))
    assert heatmaps.shape == (n, 5, height // model.stride, width // model.stride)
    assert heatmaps.dtype == torch.float32
    assert heatmaps.isfinite().all()


def test_its_stride_is_known_without_building_it(variant, model):
    assert stride_of(variant[0]) == model.stride


def test_another_size_gives_another_heatmap_size_or_is_refused(model):
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(ModelError, match="this network is built for 64x96"):
                model.eval()(crops(128, 96, 1))
        else:
            assert model.eval()(crops(128, 96, 1)).shape[-2:] == (128 // model.stride, 96 // model.stride)


def test_every_parameter_gets_a_gradient(model):
    width, height = size_of(model)
    model.train().zero_grad()
    model(crops(height, width, 4)).square().sum().backward()
    learnt = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert {n for n, p in model.named_parameters() if not p.requires_grad} <= {"keypoint_head.pos_embedding"}
    assert [n for n, p in learnt if p.grad is None or not p.grad.isfinite().all()] == []
    # biases whose shift the next norm takes out, and dead hidden units of a gate, may get exactly nothing
    silent = [n for n, p in learnt if p.grad.abs().max() == 0]
    assert [n for n in silent if not n.endswith("bias")] == []


def test_training_moves_the_running_statistics_and_eval_does_not(model):
    width, height = size_of(model)
    before = {k: v.clone() for k, v in model.named_buffers() if k.endswith("running_mean")}
    model.eval()(crops(height, width))
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers() if k in before)
    model.train()(crops(height, width))
    assert not any(torch.equal(v, before[k]) for k, v in model.named_buffers() if k in before)


def test_eval_treats_every_crop_alone(model):
    width, height = size_of(model)
    x = crops(height, width, 3)
    with torch.no_grad():
        together, alone = model.eval()(x), torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * together.std().item())


def test_saved_and_loaded_weights_answer_alike(model, variant, tmp_path):
    name, options = variant
    width, height = size_of(model)
    save_weights(model, tmp_path / "a.safetensors")
    other = create_model(name, 5, **options).eval()
    load_weights(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(other(crops(height, width)), model.eval()(crops(height, width)))


def test_layout_of_memory_does_not_matter(model):
    """In double precision: a fresh network lets the rounding of single precision grow from layer to layer."""
    width, height = size_of(model)
    x, model = crops(height, width).double(), copy.deepcopy(model).eval().double()
    with torch.no_grad():
        plain, last = model(x), model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-6, atol=1e-6 * plain.std().item())


@pytest.mark.parametrize("name", list_models())
def test_builder_is_documented_and_has_defaults(name):
    builder = NETWORKS[name]
    assert builder.__doc__
    assert all(p.default is not p.empty for p in inspect.signature(builder).parameters.values())
