"""Losses compared with their formulas in NumPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from featherpose.recipes import recipe
from featherpose.training.losses import LOSSES, focal, mse, ohkm

pytestmark = pytest.mark.torch


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    found, targets = (torch.tensor(rng.random((4, 10, 6, 5))) for _ in range(2))
    targets[targets < 0.5] = 0
    weights = torch.tensor(rng.integers(0, 2, (4, 10)).astype(float))
    return found.requires_grad_(), targets, weights


def test_mse_is_the_mean_over_all_cells(maps: tuple[torch.Tensor, ...]) -> None:
    found, targets, weights = maps
    wanted = sum(weights[n, k] * ((found[n, k] - targets[n, k]) ** 2).sum() for n in range(4) for k in range(10)) / (
        4 * 10 * 6 * 5
    )
    torch.testing.assert_close(mse(found, targets, weights), wanted)


def test_ohkm_keeps_the_eight_worst_joints_of_each_person(maps: tuple[torch.Tensor, ...]) -> None:
    found, targets, weights = maps
    errors = (weights * ((found - targets) ** 2).mean((2, 3))).detach().numpy()
    np.testing.assert_allclose(ohkm(*maps).item(), np.sort(errors, axis=1)[:, -8:].mean())


def test_focal_weighs_a_cell_by_how_wrong_it_is(maps: tuple[torch.Tensor, ...]) -> None:
    found, targets, weights = maps
    p, t = found.detach().numpy(), targets.numpy()
    wrong = t**0.01 * abs(1 - p) + abs(p) * (1 - t**0.01)
    wanted = (weights.numpy()[..., None, None] * wrong * (t - p) ** 2).mean()
    loss = focal(found, targets, weights)
    np.testing.assert_allclose(loss.item(), wanted)
    (gradient,) = torch.autograd.grad(loss, found)
    np.testing.assert_allclose(gradient, 2 * weights.numpy()[..., None, None] * wrong * (p - t) / t.size, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_unlabelled_joints_teach_nothing(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        found, targets, weights = maps
        (gradient,) = torch.autograd.grad(LOSSES[name](found, targets, weights), found)
        assert torch.isfinite(gradient).all()
        assert (gradient[weights == 0] == 0).all()
        assert (gradient[weights > 0] != 0).any()

    def test_right_maps_cost_nothing(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        assert LOSSES[name](maps[1], maps[1], maps[2]) == 0

    def test_the_mean_of_two_halves_is_the_whole(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        halves = [LOSSES[name](*(tensor[part] for tensor in maps)) for part in (slice(2), slice(2, 4))]
        torch.testing.assert_close(sum(halves) / 2, LOSSES[name](*maps))


def test_recipes_know_every_loss_by_its_name() -> None:
    assert tuple(LOSSES) == recipe.LOSSES
