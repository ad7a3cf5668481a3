"""Naive Lite-HRNet against the published code: names, outputs, intermediate maps."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_weights
from featherpose.size import Size

pytestmark = pytest.mark.torch

PUBLISHED = {"naive_litehrnet18": "naive_lite_hrnet_18", "wider_naive_litehrnet18": "wider_naive_lite_hrnet_18"}
TOLERANCE = 1e-9  # float64, in standard deviations of the output
SEEDS = {Size(height=256, width=192): 11, Size(height=384, width=288): 12}


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request, reference):
    """A published network's record and our network with the same weights, in float64."""
    record = reference(request.param)
    model = create_network(PUBLISHED[request.param])
    load_weights(model, record.weights())
    return record, model.double().eval()


def create_on_meta(name, **options):
    with torch.device("meta"):
        return create_network(name, **options)


def run(model, x):
    with torch.no_grad():
        return model(x).numpy()


def test_state_dict_matches_the_published_one(published):
    record, model = published
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == record.facts["state_dict"]


@pytest.mark.parametrize("size", SEEDS, ids=str)
def test_output_matches_the_published_one(published, make_image, size):
    record, model = published
    key = str(size)
    output = run(model, make_image(SEEDS[size], 1, *size.shape))
    assert record.max_error(output, f"out_{key}") < TOLERANCE
    assert record.max_error_from_float32(output, f"out_{key}") < 3e-6


def test_intermediate_maps_match_published_ones(published, make_image):
    record, model = published
    maps = {}
    names = {str(n).partition("|")[0] for n in record.arrays["probe_names"]}
    hooks = [model.get_submodule(n).register_forward_hook(lambda *a, n=n: maps.update({n: a[2]})) for n in names]
    run(model, make_image(11, 1, 256, 192))
    for hook in hooks:
        hook.remove()
    for name, idx, val, std in zip(*(record.arrays[f"probe_{k}"] for k in ("names", "idx", "val", "std")), strict=True):
        module, _, branch = str(name).partition("|")
        found = maps[module][int(branch)] if branch else maps[module]
        assert np.abs(found.numpy().reshape(-1)[idx] - val).max() < TOLERANCE * std, name


def test_wider_network_is_naive_with_width_40():
    assert str(create_on_meta("wider_naive_lite_hrnet_18")) == str(create_on_meta("naive_lite_hrnet_18", width=40))


def test_odd_width_is_refused():
    with pytest.raises(ModelError, match="width is 31; it must be even"):
        create_network("naive_lite_hrnet_18", width=31)
