"""EMA weights: the bits of the formula, tensor by tensor."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from featherpose.training.ema import Ema

pytestmark = pytest.mark.torch


@pytest.fixture
def network() -> Any:
    """Weights of several shapes and memory formats, running statistics and a count of steps."""
    layers = [torch.nn.Conv2d(3, 40, 3), torch.nn.BatchNorm2d(40), torch.nn.Conv2d(40, 17, 1), torch.nn.Linear(1, 1)]
    return torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_ema_is_bit_equal_to_the_formula(network: Any, decay: float) -> None:
    model = copy.deepcopy(network)
    averaged = copy.deepcopy(model)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ema = Ema(averaged, model)
    generator = torch.Generator().manual_seed(0)
    for step in (0, 1, 500, 100_000):
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 9)
        ema.update(decay, step)
        kept = min(decay, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name].lerp_(tensor, 1 - kept)
            else:
                expected[name].copy_(tensor)
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert not decay or not tensor.is_floating_point() or not torch.equal(tensor, model.state_dict()[name]), name


def test_ema_follows_loaded_weights(network: Any) -> None:
    """Resuming loads the state into networks whose tensors are listed already."""
    model = copy.deepcopy(network)
    averaged = copy.deepcopy(model)
    ema = Ema(averaged, model)
    model.load_state_dict({name: tensor + 1 for name, tensor in network.state_dict().items()})
    ema.update(0.0, 0)
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name] + 1), name


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (1000, 1001 / 1010), (8990, 0.999), (10**6, 0.999)])
def test_decay_is_limited_in_the_first_steps(step: int, expected: float) -> None:
    model = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
    averaged = copy.deepcopy(model)
    model.weight.fill_(0)
    averaged.weight.fill_(1)
    Ema(averaged, model).update(0.999, step)
    assert averaged.weight.item() == pytest.approx(expected, rel=1e-6)
