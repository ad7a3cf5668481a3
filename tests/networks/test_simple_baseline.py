"""SimpleBaseline against the published code: names, outputs; initialization of the head."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights
from featherpose.networks.heads import DeconvolutionHead

pytestmark = pytest.mark.torch

NAMES = [f"simple_baseline_resnet{depth}" for depth in (50, 101, 152)]
TOLERANCE = 1e-9  # float64, in standard deviations of the output


def mmpose_name(name):
    """An official name -> mmpose 1.x's."""
    return ("head." if name.startswith(("deconv_layers", "final_layer")) else "backbone.") + name


def create_on_meta(name):
    with torch.device("meta"):
        return create_network(name)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_matches_the_published_one(reference, name):
    ours = [[k.replace("keypoint_head.", "head."), list(v.shape)] for k, v in create_on_meta(name).state_dict().items()]
    assert ours == [[mmpose_name(k), shape] for k, shape in reference(name).facts["state_dict"]]


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_output_matches_the_published_one(reference, make_image, name):
    record = reference(name)
    model = create_on_meta(name).to_empty(device="cpu")
    load_weights(model, record.weights())  # by their official names
    with torch.no_grad():
        output = model.double().eval()(make_image(11, 1, 256, 192)).numpy()
    assert record.max_error(output, "out_256x192") < TOLERANCE
    assert record.max_error_from_float32(output, "out_256x192") < 3e-6


def test_head_upsamples_by_a_factor_of_8():
    head = DeconvolutionHead(8, 5, hidden=16).eval()
    with torch.no_grad():
        assert head(torch.randn(2, 8, 2, 3)).shape == (2, 5, 16, 24)


def test_head_initialization_is_the_published_one():
    torch.manual_seed(0)
    head = create_network("shufflenet_v2").keypoint_head
    for layer in (0, 3, 6):
        assert head.deconv_layers[layer].weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert head.final_layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.final_layer.bias.abs().max() == 0
