"""HRNet against the published code: names, outputs; initialization; attention on the four branches."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights
from tests.families import shorten

pytestmark = pytest.mark.torch

NAMES = ["hrnet_w32", "hrnet_w48"]
TOLERANCE = 1e-9  # float64, in standard deviations of the output


def mmpose_name(name):
    """An official name -> mmpose 1.x's."""
    return ("head." if name.startswith("final_layer") else "backbone.") + name


def create_on_meta(name, **options):
    with torch.device("meta"):
        return create_network(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_matches_the_published_one(reference, name):
    ours = [[k.replace("keypoint_head.", "head."), list(v.shape)] for k, v in create_on_meta(name).state_dict().items()]
    assert ours == [[mmpose_name(k), shape] for k, shape in reference(name).facts["state_dict"]]


@pytest.fixture(scope="module", params=[NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
def published(request, reference):
    """A published network's record, and our network with the same weights, loaded by their official names."""
    record = reference(request.param)
    model = create_on_meta(request.param).to_empty(device="cpu")
    load_weights(model, record.weights())
    return record, model.eval()


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


def test_initialization_is_the_published_one():
    torch.manual_seed(0)
    layers = [m for m in create_network("hrnet_w32").modules() if isinstance(m, torch.nn.Conv2d)]
    large = [m for m in layers if m.weight.numel() > 10_000]
    assert len(large) > 150
    assert all(m.weight.std().item() == pytest.approx(0.001, rel=0.05) for m in large)
    assert layers[-1].weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert layers[-1].bias.abs().max() == 0


@pytest.mark.parametrize("attention", ["cbam", "se", "coordinate"])
def test_attention_is_on_all_four_branches(attention, monkeypatch):
    shorten(monkeypatch)
    model = create_on_meta("hrnet_w32", attention=attention)
    published = create_on_meta("hrnet_w32")
    assert len(model.keypoint_head.attention) == 4
    assert model.keypoint_head.final_layer.weight.shape == (17, 32 + 64 + 128 + 256, 1, 1)
    shapes = {k: v.shape for k, v in model.backbone.state_dict().items()}
    assert {k: v.shape for k, v in published.backbone.state_dict().items()}.items() < shapes.items()


def test_no_attention_is_the_published_network(monkeypatch):
    shorten(monkeypatch)
    assert str(create_on_meta("hrnet_w48", attention="none")) == str(create_on_meta("hrnet_w48"))


@pytest.mark.parametrize("rename", [str, mmpose_name, "module.{}".format], ids=["official", "mmpose", "parallel"])
def test_checkpoints_load_under_all_naming_schemes(reference, rename):
    weights = {rename(k): torch.empty(shape, device="meta") for k, shape in reference("hrnet_w32").facts["state_dict"]}
    model = create_on_meta("hrnet_w32")
    load_weights(model, weights)
    with pytest.raises(ModelError, match=r"1 missing \(backbone.conv1.weight\)\.$"):
        load_weights(model, dict(list(weights.items())[1:]))
