"""Lite-HRNet against the published code: outputs, intermediate maps, one training step, plausible mistakes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.networks import create_network
from featherpose.networks.lite_hrnet import Fuse
from featherpose.size import Size

pytestmark = pytest.mark.torch

PUBLISHED = {"litehrnet18": "lite_hrnet_18", "litehrnet30": "lite_hrnet_30"}
TOLERANCE = 1e-9  # float64, in standard deviations of the output
SEEDS = {Size(height=256, width=192): 11, Size(height=384, width=288): 12}


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request, reference):
    """A published network's record and our network with the same weights, in float64."""
    record = reference(request.param)
    model = create_network(PUBLISHED[request.param])
    model.load_state_dict(record.weights())
    return record, model.double().eval()


def run(model, x):
    with torch.no_grad():
        return model(x).numpy()


def distance(output, idx, val):
    return np.abs(output.reshape(-1)[idx] - val).max() / output.std()


def test_filled_weights_match_the_record(reference):
    record = reference("litehrnet18")
    check = record.facts["weights_check"]
    floats = [w.double() for w in record.weights().values() if w.is_floating_point()]
    assert sum(w.sum().item() for w in floats) == pytest.approx(check["sum"], rel=1e-12)
    assert sum(w.abs().sum().item() for w in floats) == pytest.approx(check["abs_sum"], rel=1e-12)


def test_state_dict_matches_the_published_one(published):
    record, model = published
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == record.facts["state_dict"]


@pytest.mark.parametrize("size", SEEDS, ids=str)
def test_output_matches_the_published_one(published, make_image, size):
    record, model = published
    key = str(size)
    x = make_image(SEEDS[size], 1, *size.shape)
    assert x.sum().item() == pytest.approx(record.facts[f"input_{key}"]["sum"], rel=1e-12)
    output = run(model, x)
    assert record.max_error(output, f"out_{key}") < TOLERANCE
    assert record.max_error_from_float32(output, f"out_{key}") < 3e-6


def test_float32_output_is_within_tolerance(reference, make_image):
    record = reference("litehrnet18")
    model = create_network("lite_hrnet_18").eval()
    model.load_state_dict(record.weights())
    assert record.max_error(run(model, make_image(11, 1, 256, 192).float()), "out_256x192") < 5e-5


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


def wrong_fuse(times):
    """A fuse layer whose paths from branch 0 read o_0, not y_0; o_0 and these paths are multiplied by `times`."""

    def forward(self, maps):
        finest = times * maps[0] + self._sum_from_coarser(0, maps)
        coarser = [maps[i] + times * self._apply_path(0, i, maps[0]) for i in range(1, len(maps))]
        for i, y in enumerate(coarser, 1):
            y += sum(self._apply_path(j, i, maps[j]) for j in range(1, i))
            y += self._sum_from_coarser(i, maps) if i < len(maps) - 1 else 0
        return [y.relu() for y in (finest, *coarser)]

    return forward


WRONG = {"textbook_each_path_once": wrong_fuse(1), "doubled_but_no_aliasing": wrong_fuse(2)}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_fuse_layers_are_detected(published, make_image, monkeypatch, mistake):
    record, model = published
    monkeypatch.setattr(Fuse, "forward", WRONG[mistake])
    output = run(model, make_image(11, 1, 256, 192))
    idx, right = record.values("out_256x192")
    wrong = np.array(record.facts["negative_controls_256x192"][mistake]["val_at_out_idx"])
    assert distance(output, idx, wrong) < TOLERANCE
    assert distance(output, idx, right) > 1


def test_halved_fuse_only_halves_the_finest_map(filled):
    torch.manual_seed(2)
    channels = (8, 16, 32)
    maps = [torch.randn(2, c, 16 // 2**i, 24 // 2**i).double() for i, c in enumerate(channels)]
    published, halved = (filled(Fuse(channels, halved=h), 1.0).train() for h in (False, True))
    for i, (a, b) in enumerate(zip(published(maps), halved(maps), strict=True)):
        # the coarser maps differ only because of the norms' epsilon
        torch.testing.assert_close(b, a / 2 if i == 0 else a, rtol=0, atol=1e-12 if i == 0 else 1e-4)


def test_halved_fuse_keeps_channel_0_in_range():
    deviations = {}
    for fuse in ("halved", "published"):
        torch.manual_seed(0)
        backbone = create_network("cbam_lite_hrnet_18", width=8, fuse=fuse).backbone
        finest = backbone(torch.randn(4, 3, 64, 64))[0].std((0, 2, 3))
        deviations[fuse] = (finest[0] / finest[1:].median()).item()
    assert deviations["halved"] < 4
    assert deviations["published"] > 50


@pytest.fixture(scope="module")
def step(reference, make_image):
    """One training step of litehrnet18 in float64: record, network afterwards, output, loss (as in HRNet)."""
    record = reference("litehrnet18")
    model = create_network("lite_hrnet_18")
    model.load_state_dict(record.weights())
    model.double().train()
    output = model(make_image(20, 2, 256, 192))
    target, weight = target_of_the_record(record.facts["train_step"]["target_seed"])
    loss = 0.5 * (weight * (output - target)).square().mean((0, 2, 3)).mean()
    loss.backward()
    return record, model, output.detach().numpy(), loss.item()


def target_of_the_record(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 47, (2, 17)), rng.uniform(0, 63, (2, 17))
    weight = (rng.uniform(0, 1, (2, 17, 1)) < 0.75)[..., None]
    across, down = np.arange(48), np.arange(64)[:, None]
    target = np.exp(-((across - x[..., None, None]) ** 2 + (down - y[..., None, None]) ** 2) / 8)
    return torch.from_numpy(target.astype(np.float32)).double(), torch.from_numpy(weight).double()


def test_training_step_output_and_loss(step):
    record, _, output, loss = step
    assert loss == pytest.approx(record.facts["train_step"]["loss"], rel=1e-9)
    assert record.max_error(output, "train_out") < TOLERANCE


def test_training_step_gradient_norms(step):
    record, model, _, _ = step
    gradients = {name: p.grad for name, p in model.named_parameters()}
    zero = set(record.facts["train_step"]["zero_grad_params"])
    assert set(record.arrays["train_grad_names"]) == set(gradients)
    for name, norm in zip(record.arrays["train_grad_names"], record.arrays["train_grad_norm"], strict=True):
        wanted = pytest.approx(0, abs=1e-12) if name in zero else pytest.approx(norm, rel=1e-9)
        assert gradients[name].norm().item() == wanted, name


def test_training_step_gradient_samples(step):
    record, model, _, _ = step
    samples = zip(*(record.arrays[f"train_sample_{k}"] for k in ("names", "idx", "val")), strict=True)
    for name, idx, val in samples:
        gradient = model.get_parameter(str(name)).grad.numpy()
        assert np.abs(gradient.reshape(-1)[idx] - val).max() < 1e-9 * np.linalg.norm(gradient), name


def test_training_step_running_statistics(step):
    record, model, _, _ = step
    keys = [k for k in record.arrays if k.startswith("train_bn|")]
    assert len(keys) == 12
    for key in keys:
        np.testing.assert_allclose(model.get_buffer(key.partition("|")[2]), record.arrays[key], rtol=1e-9)


def test_training_step_num_batches_tracked(step):
    record, model, _, _ = step
    suffix = ".num_batches_tracked"
    counted = {k.removesuffix(suffix): int(v) for k, v in model.named_buffers() if k.endswith(suffix)}
    assert {k for k, n in counted.items() if n == 2} == set(record.facts["train_step"]["num_batches_tracked_2"])
    assert set(counted.values()) == {1, 2}
