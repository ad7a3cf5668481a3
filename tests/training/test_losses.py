"""Losses compared with their formulas in NumPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from featherpose.recipes import pose
from featherpose.training.losses import LOSSES, focal, mse, ohkm

pytestmark = pytest.mark.torch


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    found, targets = (torch.tensor(rng.random((4, 10, 6, 5))) for _ in range(2))
    targets[targets < 0.5] = 0
    weights = torch.tensor(rng.integers(0, 2, (4, 10)).astype(float))
    return found.requires_grad_(), targets, weights


def test_mse_is_mean_over_all_cells(maps: tuple[torch.Tensor, ...]) -> None:
    found, targets, weights = maps
    wanted = sum(weights[n, k] * ((found[n, k] - targets[n, k]) ** 2).sum() for n in range(4) for k in range(10)) / (
        4 * 10 * 6 * 5
    )
    torch.testing.assert_close(mse(found, targets, weights), wanted)


def test_ohkm_keeps_eight_hardest_keypoints(maps: tuple[torch.Tensor, ...]) -> None:
    found, targets, weights = maps
    errors = (weights * ((found - targets) ** 2).mean((2, 3))).detach().numpy()
    np.testing.assert_allclose(ohkm(*maps).item(), np.sort(errors, axis=1)[:, -8:].mean())


def test_focal_weights_cells_by_their_error(maps: tuple[torch.Tensor, ...]) -> None:
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
    def test_unlabeled_keypoints_have_no_gradient(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        found, targets, weights = maps
        (gradient,) = torch.autograd.grad(LOSSES[name](found, targets, weights), found)
        assert torch.isfinite(gradient).all()
        assert (gradient[weights == 0] == 0).all()
        assert (gradient[weights > 0] != 0).any()

    def test_exact_heatmaps_have_zero_loss(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        assert LOSSES[name](maps[1], maps[1], maps[2]) == 0

    def test_mean_of_halves_equals_whole_batch(self, name: str, maps: tuple[torch.Tensor, ...]) -> None:
        halves = [LOSSES[name](*(tensor[part] for tensor in maps)) for part in (slice(2), slice(2, 4))]
        torch.testing.assert_close(sum(halves) / 2, LOSSES[name](*maps))


def test_recipe_losses_match_loss_functions() -> None:
    assert tuple(LOSSES) == pose.LOSSES
