"""Contract tests that every network in the list must pass."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.codecs.heatmap import Msra
from featherpose.errors import ModelError
from featherpose.networks import NETWORKS, create_network, stride_of
from featherpose.networks.checkpoints import load_weights, save_weights
from featherpose.recipes.recipe import Optimizer
from featherpose.size import Size
from featherpose.training.loop import make_optimizer
from featherpose.training.tasks.pose import PoseLoss
from featherpose.training.train_step import TrainStep

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
SMALL = Size(height=64, width=96)
HEAVY = {"cpm", "hrnet_w48", "simple_baseline_resnet101", "simple_baseline_resnet152"}
# A training step with a few hundred tokens or tens of millions of weights takes half a second or more.
SLOW_TO_TRAIN = HEAVY | {"hrnet_w32", "simple_baseline_resnet50", "swin_t"}
SLOW_TO_TRAIN |= {"tokenpose_t", "tokenpose_s_v1", "tokenpose_b", "tokenpose_l_d24"}
LEARNING_RATE = 1e-3  # of AdamW: at 3e-3, heads with 256 channels before the last layer do not converge in 60 steps
LOSS_DROP, STEPS = 0.8, 60
CPU = torch.device("cpu")


def small_options(name):
    """Options for a small input, for networks built for a single size."""
    return {"input_size": SMALL} if "input_size" in inspect.signature(NETWORKS[name]).parameters else {}


def variants():
    """Every network with default options, at a small size if built for a single one, and the variants of `OPTIONS`."""
    for name in sorted(NETWORKS):
        yield name, small_options(name)
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
    return create_network(name, 5, **options)


def crops(height=64, width=96, n=2, seed=0):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def size_of(model):
    return model.fixed_size or SMALL


@pytest.mark.parametrize("n", [1, 3])
def test_heatmap_size_is_input_size_over_stride(model, n):
    height, width = size_of(model).shape
    with torch.no_grad():
        heatmaps = model.eval()(crops(height, width, n))
    assert heatmaps.shape == (n, 5, height // model.stride, width // model.stride)
    assert heatmaps.dtype == torch.float32
    assert heatmaps.isfinite().all()


def test_stride_of_matches_the_built_network(variant, model):
    assert stride_of(variant[0]) == model.stride


def test_other_input_size_works_or_is_refused(model):
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(ModelError, match="this network is built for 64x96"):
                model.eval()(crops(128, 96, 1))
        else:
            assert model.eval()(crops(128, 96, 1)).shape[-2:] == (128 // model.stride, 96 // model.stride)


def test_every_parameter_gets_a_gradient(model):
    height, width = size_of(model).shape
    model.train().zero_grad()
    model(crops(height, width, 4)).square().sum().backward()
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert {n for n, p in model.named_parameters() if not p.requires_grad} <= {"keypoint_head.pos_embedding"}
    assert [n for n, p in trainable if p.grad is None or not p.grad.isfinite().all()] == []
    # biases that the next norm cancels, and dead hidden units of a gate, may have a gradient of exactly 0
    without_gradient = [n for n, p in trainable if p.grad.abs().max() == 0]
    assert [n for n in without_gradient if not n.endswith("bias")] == []


def test_only_train_mode_updates_running_stats(model):
    height, width = size_of(model).shape
    before = {k: v.clone() for k, v in model.named_buffers() if k.endswith("running_mean")}
    model.eval()(crops(height, width))
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers() if k in before)
    model.train()(crops(height, width))
    assert not any(torch.equal(v, before[k]) for k, v in model.named_buffers() if k in before)


def test_eval_output_is_independent_of_the_batch(model):
    height, width = size_of(model).shape
    x = crops(height, width, 3)
    with torch.no_grad():
        together, alone = model.eval()(x), torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * together.std().item())


def test_saved_and_loaded_weights_give_same_output(model, variant, tmp_path):
    name, options = variant
    height, width = size_of(model).shape
    save_weights(model, tmp_path / "a.safetensors")
    other = create_network(name, 5, **options).eval()
    load_weights(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(other(crops(height, width)), model.eval()(crops(height, width)))


def test_output_is_independent_of_memory_layout(model):
    """In double precision: single-precision rounding errors grow from layer to layer in an untrained network."""
    height, width = size_of(model).shape
    x, model = crops(height, width).double(), copy.deepcopy(model).eval().double()
    with torch.no_grad():
        plain, last = model(x), model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-6, atol=1e-6 * plain.std().item())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_builder_is_documented_and_has_defaults(name):
    builder = NETWORKS[name]
    assert builder.__doc__
    assert all(p.default is not p.empty for p in inspect.signature(builder).parameters.values())


def four_samples(stride, seed=0):
    """Stride -> four crops uint8 (4, H, W, 3) of noise, heatmaps of five keypoints each, and their weights."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (4, *SMALL.shape, 3), np.uint8)
    keypoints = rng.uniform(8, np.array(SMALL.xy) - 8, (4, 5, 2))
    heatmaps, weights = Msra(SMALL, stride, sigma=1.5, unbiased=True).encode(keypoints, np.ones((4, 5)))
    return tuple(map(torch.from_numpy, (pixels, heatmaps, weights)))


def slow_to_train(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW_TO_TRAIN else name


@pytest.mark.parametrize("name", [slow_to_train(name) for name in sorted(NETWORKS)])
def test_network_overfits_four_samples(name):
    """Overfit four samples with the loss, optimizer and learning rate of real runs.

    The initial loss is that of empty heatmaps, so a drop by 80 % means that most of every peak is learned. TokenPose's
    is five times that, because its heatmaps do not start near 0: there the drop only shows that it learns. cpm's loss
    is the mean over its six stages.
    """
    torch.manual_seed(0)
    network = create_network(name, 5, **small_options(name)).train()
    train_step = TrainStep(network, PoseLoss("mse"), CPU)
    optimizer = make_optimizer(network, Optimizer(lr=LEARNING_RATE))
    samples = four_samples(network.stride)
    losses = []
    while len(losses) <= STEPS and (not losses or losses[-1] > (1 - LOSS_DROP) * losses[0]):
        optimizer.zero_grad()
        losses.append(train_step(samples).item())
        optimizer.step()
    assert losses[-1] <= (1 - LOSS_DROP) * losses[0], f"{losses[-1] / losses[0]:.2f} of {losses[0]:.4f} left"


@pytest.fixture
def reset_compiler():
    """Reset torch.compile, so that its caches for one network do not affect the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("reset_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_network_compiles_to_one_full_graph(name):
    """Captured end to end in train mode without graph breaks, on the meta device: tensors have no data.

    That compiled code gives the same outputs and training is tested on a small network in
    tests/training/test_train_step.py: for a full network it takes more than ten minutes on two cores.
    """
    network = create_network(name, 5, **small_options(name)).to("meta").train()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    heatmaps = compiled(torch.empty(2, 3, *SMALL.shape, device="meta"))
    assert heatmaps.shape[-4:] == (2, 5, SMALL.height // network.stride, SMALL.width // network.stride)
