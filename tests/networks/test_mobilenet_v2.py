"""MobileNetV2 against the published code: names, counts, outputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_model
from featherpose.networks.checkpoints import load_weights
from featherpose.networks.counts import count_macs, count_parameters

pytestmark = pytest.mark.torch

NAME = "mobilenet_v2"
SHARP = 1e-9  # float64, in standard deviations of the output


def distance(output, idx, val):
    return np.abs(output.reshape(-1)[idx] - val).max() / output.std()


@pytest.fixture(scope="module")
def record(reference):
    return reference(NAME)


@pytest.fixture
def model(record):
    """Our network with the record's weights, which have mmpose 1.x's names."""
    model = create_model(NAME)
    load_weights(model, record.weights())
    return model.eval()


def test_names_order_and_shapes_are_the_published_ones(record, model):
    ours = [[k.replace("keypoint_head.", "head."), list(v.shape)] for k, v in model.state_dict().items()]
    assert ours == record.facts["state_dict"]


def test_counts_are_the_published_ones(shared):
    counts = json.loads((shared / "parity" / "counts.json").read_text())[NAME]
    with torch.device("meta"):
        model = create_model(NAME)
    assert count_parameters(model) == counts["params"]
    assert count_macs(model, (192, 256)) == counts["macs"]["256x192"]["conv_linear_as_written"]


def test_output(record, model, make_picture):
    with torch.no_grad():
        output = model.double()(make_picture(11, 1, 256, 192)).numpy()
    assert distance(output, *record.values("out_256x192")) < SHARP
    channels = record.arrays["out_256x192_channels"]
    assert np.abs(output[:, channels] - record.arrays["out_256x192_f32"]).max() < 3e-6 * output.std()


def test_float32_stays_within_the_measured_tolerance(record, model, make_picture):
    with torch.no_grad():
        output = model(make_picture(11, 1, 256, 192).float()).numpy()
    assert distance(output, *record.values("out_256x192")) < 5e-5
