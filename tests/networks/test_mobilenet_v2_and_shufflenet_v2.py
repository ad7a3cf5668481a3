"""MobileNetV2 and ShuffleNetV2 against the published code: names, outputs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights

pytestmark = pytest.mark.torch

FLOAT32 = {"mobilenet_v2": 5e-5, "shufflenet_v2": 2.5e-5}
"""Name -> float32 tolerance, in standard deviations of the output."""
TOLERANCE = 1e-9  # float64, in standard deviations of the output


@pytest.fixture(scope="module", params=FLOAT32)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def record(reference, name):
    return reference(name)


@pytest.fixture
def model(record, name):
    """Our network with the record's weights, which have mmpose 1.x's names."""
    model = create_network(name)
    load_weights(model, record.weights())
    return model.eval()


def test_state_dict_matches_the_published_one(record, model):
    ours = [[k.replace("keypoint_head.", "head."), list(v.shape)] for k, v in model.state_dict().items()]
    assert ours == record.facts["state_dict"]


def test_output_matches_the_published_one(record, model, make_image):
    with torch.no_grad():
        output = model.double()(make_image(11, 1, 256, 192)).numpy()
    assert record.max_error(output, "out_256x192") < TOLERANCE
    assert record.max_error_from_float32(output, "out_256x192") < 3e-6


def test_float32_output_is_within_tolerance(record, model, make_image, name):
    with torch.no_grad():
        output = model(make_image(11, 1, 256, 192).float()).numpy()
    assert record.max_error(output, "out_256x192") < FLOAT32[name]
