"""Attention blocks against their published code, and their two parts under nearest upsampling."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks.attention import ATTENTIONS, Attention, ChannelGate, create_attention
from featherpose.networks.layers import upsample_nearest

pytestmark = pytest.mark.torch

# published name of a submodule -> ours
CBAM = {
    "ChannelGate.mlp.1": "channel.reduce",
    "ChannelGate.mlp.3": "channel.expand",
    "SpatialGate.spatial.conv": "spatial.conv",
    "SpatialGate.spatial.bn": "spatial.bn",
}
SE = {"conv1.conv": "channel.reduce", "conv2.conv": "channel.expand"}
COORDINATE = {"conv1": "channel.reduce", "bn1": "channel.bn", "conv_h": "channel.rows", "conv_w": "channel.columns"}

MODULES = {
    "cbam": (lambda: create_attention("cbam", 40), CBAM),
    "cbam_channel_only": (lambda: Attention(ChannelGate(40)), CBAM),
    "se": (lambda: create_attention("se", 40), SE),
    "coordatt": (lambda: create_attention("coordinate", 40), COORDINATE),
}
WITH_NORM = ("cbam", "coordatt")
# The others have no norm: both modes are equal, and only eval is recorded.
MODES = [(name, mode) for name in MODULES for mode in ("eval", "train") if mode == "eval" or name in WITH_NORM]


@pytest.fixture(scope="module")
def record(parity):
    facts = json.loads((parity / "attention.json").read_text())
    with np.load(parity / "attention.npz") as arrays:
        return facts, dict(arrays)


@pytest.fixture(scope="module")
def x(record):
    values = np.random.default_rng(600).standard_normal((2, 40, 16, 12)).astype(np.float32)
    assert values.astype(float).sum() == pytest.approx(record[0]["input"]["sum"], rel=1e-12)
    return torch.from_numpy(values).double()


def translated_name(name, names):
    part, _, kind = name.rpartition(".")
    return f"{names[part]}.{kind}"


def build(name, facts, fill):
    make, names = MODULES[name]
    module = make()
    shapes = module.state_dict()
    listed = facts["modules"][name]["state_dict"]
    weights = {translated_name(n, names): fill(n, shape, facts["gain"]) for n, shape in listed}
    module.load_state_dict({k: w.reshape(shapes[k].shape) for k, w in weights.items()})
    return module.double()


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_output_matches_the_published_block(record, x, fill_tensor, name, mode):
    facts, arrays = record
    module = build(name, facts, fill_tensor).train(mode == "train")
    output = module(x).detach().numpy()
    np.testing.assert_allclose(output, arrays[f"{name}_{mode}"], atol=1e-6 * output.std())


@pytest.mark.parametrize("name", ["cbam", "coordatt"])
def test_running_statistics_after_one_step(record, x, fill_tensor, name):
    facts, arrays = record
    module = build(name, facts, fill_tensor).train()
    module(x)
    keys = [k for k in arrays if k.startswith(f"{name}_after|")]
    assert len(keys) == 2
    for key in keys:
        ours = module.get_buffer(translated_name(key.partition("|")[2], MODULES[name][1]))
        np.testing.assert_allclose(ours, arrays[key], rtol=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_parameter_count(record, fill_tensor, name):
    facts, _ = record
    module = build(name, facts, fill_tensor)
    assert sum(p.numel() for p in module.parameters()) == facts["modules"][name]["params"]


@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_channel_gate_commutes_with_upsampling(x, name):
    torch.manual_seed(1)
    channel = create_attention(name, 40).double().train().channel
    torch.testing.assert_close(upsample_nearest(channel(x, 4), 4), channel(upsample_nearest(x, 4)), rtol=0, atol=1e-12)


def test_spatial_gate_is_computed_at_full_size(x):
    spatial = create_attention("cbam", 40).double().train().spatial
    torch.testing.assert_close(spatial(x, 4), spatial(upsample_nearest(x, 4)), rtol=0, atol=1e-12)
    assert (spatial(x, 4) - upsample_nearest(spatial(x), 4)).abs().max() > 1e-3


def test_none_returns_its_input(x):
    assert create_attention("none", 40)(x) is x


def test_unknown_attention_is_refused():
    with pytest.raises(ModelError, match=r"Unknown attention 'cbma'\. Did you mean 'cbam'\?"):
        create_attention("cbma", 40)
