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
from featherpose.networks.attention import OPEN_SCALE
from featherpose.networks.checkpoints import load_weights, save_weights
from featherpose.recipes.recipe import Optimizer
from featherpose.size import Size
from featherpose.training.loop import make_optimizer
from featherpose.training.tasks.pose import PoseLoss
from featherpose.training.train_step import TrainStep
from tests.families import SAME_LAYERS, TESTED, shorten

pytestmark = pytest.mark.torch

OPTIONS = [
    *(
        ("cbam_lite_hrnet_18", options)
        for options in (
            {"attention": "se"},
            {"attention": "coordinate"},
            {"attention": "none"},
            {"attention_at": "block"},
            {"head": "iterative", "open_gates": True, "fuse": "published"},
            {"head": "native", "open_gates": True, "norm": True},
            {"head": "iterative_concat", "norm": True, "gate_norm": True},
            {"width": 32},
        )
    ),
    ("hrnet_w32", {"attention": "cbam"}),
]
SMALL = Size(height=64, width=32)  # the smallest that is not a square: maps of 2x1 cells at 1/32
HEAVY = {"cpm"}
# More than a hundred tokens, a wide head or tens of millions of weights: sixty training steps take seconds.
SLOW_TO_TRAIN = HEAVY | {"hrnet_w32", "simple_baseline_resnet50", "swin_t", "tokenpose_t", "tokenpose_l_d24"}
SLOW_TO_TRAIN |= {"mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "naive_lite_hrnet_18", "tokenpose_s_v2"}
SLOW_TO_TRAIN |= {"inverted_pose", "rep_pose", "shufflenet_v1", "shufflenet_v2"}
LEARNING_RATE = 1e-3  # of AdamW: at 3e-3, heads with 256 channels before the last layer do not converge in 60 steps
LOSS_DROP, TOKEN_LOSS_DROP, STEPS = 0.8, 0.7, 60
CPU = torch.device("cpu")


def small_options(name):
    """Options for a small input, for networks built for a single size."""
    return {"input_size": SMALL} if "input_size" in inspect.signature(NETWORKS[name]).parameters else {}


def kinds(name):
    """Classes of the modules of a network, and of those that contain them."""
    with torch.device("meta"):
        network = NETWORKS[name]()  # without initializing weights
    return {(type(outer), type(inner)) for outer in network.modules() for inner in outer.children()}


@pytest.mark.parametrize(("name", "tested"), SAME_LAYERS.items())
def test_untested_network_has_no_other_layers(name, tested):
    assert tested in TESTED
    assert kinds(name) == kinds(tested)


def variants():
    """Networks with default options, at a small size if built for a single one, and the variants of `OPTIONS`."""
    for name in TESTED:
        yield name, small_options(name)
    yield from OPTIONS


def parameter(name, options):
    marks = [pytest.mark.slow] if name in HEAVY else []
    return pytest.param((name, options), id="-".join([name, *map(str, options.values())]), marks=marks)


@pytest.fixture(scope="module", params=[parameter(*variant) for variant in variants()])
def variant(request):
    """Name and options; a variant of a network has fewer of the layers that its default options are tested with."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param in OPTIONS:
            shorten(patch)
        yield request.param


@pytest.fixture(scope="module")
def model(variant):
    """The network in eval mode; no test changes it."""
    torch.manual_seed(0)
    name, options = variant
    return create_network(name, 5, **options).eval()


def crops(n, size=SMALL):
    """The first n of the same normalized crops (n, 3, H, W)."""
    return torch.randn(3, 3, *size.shape, generator=torch.Generator().manual_seed(0))[:n]


@pytest.fixture(scope="module")
def heatmaps(model):
    """Of three crops, in eval mode."""
    with torch.no_grad():
        return model(crops(3))


@pytest.fixture(scope="module")
def trained(model):
    """A copy of the network after one pass in train mode, with gradients and running statistics; in eval mode."""
    network = copy.deepcopy(model).train()
    network(crops(3)).square().sum().backward()
    return network.eval()


def test_heatmap_size_is_input_size_over_stride(variant, model, heatmaps):
    assert heatmaps.shape == (3, 5, SMALL.height // model.stride, SMALL.width // model.stride)
    assert heatmaps.dtype == torch.float32
    assert heatmaps.isfinite().all()
    assert stride_of(variant[0]) == model.stride


def test_other_input_size_works_or_is_refused(model):
    wide = crops(1, Size(height=32, width=96))
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(ModelError, match="this network is built for 64x32"):
                model(wide)
        else:
            assert model(wide).shape[-2:] == (32 // model.stride, 96 // model.stride)


# Open gates start at 1 whatever their earlier layers compute: these get a gradient from the second step on.
BEFORE_ZERO_LAYER = ("channel.reduce.weight", "spatial.conv.weight")


def test_every_parameter_gets_a_gradient(trained):
    trainable = [(n, p) for n, p in trained.named_parameters() if p.requires_grad]
    assert {n for n, p in trained.named_parameters() if not p.requires_grad} <= {"keypoint_head.pos_embedding"}
    assert [n for n, p in trainable if p.grad is None or not p.grad.isfinite().all()] == []
    # biases that the next norm cancels, and dead hidden units of a gate, may have a gradient of exactly 0
    without_gradient = [n for n, p in trainable if p.grad.abs().max() == 0]
    with_open_gates = any(getattr(module, "scale", 1) == OPEN_SCALE for module in trained.modules())
    expected = ("bias", *BEFORE_ZERO_LAYER) if with_open_gates else ("bias",)
    assert [n for n in without_gradient if not n.endswith(expected)] == []


@pytest.mark.usefixtures("heatmaps")
def test_only_train_mode_updates_running_stats(model, trained):
    before, after = ({k: v for k, v in m.named_buffers() if k.endswith("running_mean")} for m in (model, trained))
    assert [k for k, v in before.items() if v.any()] == []
    assert [k for k, v in after.items() if not v.any()] == []


def test_eval_output_is_independent_of_the_batch(model, heatmaps):
    with torch.no_grad():
        alone = torch.cat([model(crops(3)[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(heatmaps[:2], alone, rtol=1e-3, atol=1e-4 * heatmaps.std().item())


def test_saved_and_loaded_weights_give_same_output(trained, variant, tmp_path):
    name, options = variant
    save_weights(trained, tmp_path / "a.safetensors")
    other = create_network(name, 5, **options).eval()
    load_weights(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(other(crops(1)), trained(crops(1)))


def test_output_is_independent_of_memory_layout(trained):
    """In double precision: single-precision rounding errors grow from layer to layer in an untrained network."""
    x = crops(2).double()
    network = copy.deepcopy(trained).double()
    with torch.no_grad():
        plain, last = network(x), network(x.to(memory_format=torch.channels_last))
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


@pytest.mark.parametrize("name", [slow_to_train(name) for name in TESTED])
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
    left = 1 - (TOKEN_LOSS_DROP if network.fixed_size else LOSS_DROP)
    losses = []
    while len(losses) <= STEPS and (not losses or losses[-1] > left * losses[0]):
        optimizer.zero_grad()
        losses.append(train_step(samples).item())
        optimizer.step()
    assert losses[-1] <= left * losses[0], f"{losses[-1] / losses[0]:.2f} of {losses[0]:.4f} left"


@pytest.fixture
def reset_compiler():
    """Reset torch.compile, so that its caches for one network do not affect the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("reset_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", TESTED)
def test_network_compiles_to_one_full_graph(name, monkeypatch):
    """Captured end to end in train mode without graph breaks, on the meta device: tensors have no data.

    Deep networks are shortened: a graph break depends on a kind of layer, not on their number. That compiled code gives
    the same outputs and training is tested on a small network in tests/training/test_train_step.py: for a full network
    it takes more than ten minutes on two cores.
    """
    shorten(monkeypatch)
    network = create_network(name, 5, **small_options(name)).to("meta").train()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    heatmaps = compiled(torch.empty(2, 3, *SMALL.shape, device="meta"))
    assert heatmaps.shape[-4:] == (2, 5, SMALL.height // network.stride, SMALL.width // network.stride)
