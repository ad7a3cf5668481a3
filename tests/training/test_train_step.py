"""One batch: accumulated parts equal the whole, bfloat16 is close to float32, compiled gradients equal eager ones."""

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from featherpose.networks import create_network
from featherpose.training.distill import Teacher
from featherpose.training.task import Batch
from featherpose.training.tasks.pose import PoseLoss
from featherpose.training.train_step import TrainStep

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


@pytest.fixture
def network() -> nn.Module:
    """In eval mode: batch norms in training mode would make parts differ from the whole batch."""
    torch.manual_seed(0)
    return create_network("cbam_lite_hrnet_18", width=8).eval()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    crops = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    return crops, torch.rand(4, 17, 16, 16), torch.ones(4, 17)


# Gradients reach about 80 here: the tolerances allow for float32 sums in another order.
def gradients(network: nn.Module, train_step: TrainStep, batch: Batch, parts: int = 1) -> torch.Tensor:
    network.zero_grad()
    train_step(batch, parts=parts)
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_accumulated_parts_equal_whole_batch(network: nn.Module, batch: Batch) -> None:
    train_step = TrainStep(network, PoseLoss("mse"), CPU)
    whole = gradients(network, train_step, batch)
    torch.testing.assert_close(gradients(network, train_step, batch, parts=2), whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(train_step(batch, parts=4), train_step(batch), rtol=1e-5, atol=0)


def test_bfloat16_gradients_are_close(network: nn.Module, batch: Batch) -> None:
    exact = gradients(network, TrainStep(network, PoseLoss("mse"), CPU), batch)
    rough = gradients(network, TrainStep(network, PoseLoss("mse"), CPU, "bf16"), batch)
    assert torch.cosine_similarity(exact, rough, dim=0) > 0.9
    assert not torch.equal(exact, rough)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by torch itself
def test_compiled_gradients_equal_eager(batch: Batch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 17, 1))
    exact = gradients(network, TrainStep(network, PoseLoss("mse"), CPU), batch)
    compiled = gradients(network, TrainStep(network, PoseLoss("mse"), CPU, compiled=True), batch)
    torch.testing.assert_close(compiled, exact, rtol=1e-4, atol=1e-6)


class TestTeacher:
    def test_teacher_with_share_one_ignores_labels(self, network: nn.Module, batch: Batch) -> None:
        torch.manual_seed(2)
        teacher = Teacher(create_network("cbam_lite_hrnet_18", width=8), share=1.0)
        train_step = TrainStep(network, PoseLoss("mse", teacher), CPU)
        crops, targets, weights = batch
        assert torch.equal(train_step(batch), train_step((crops, 0 * targets, weights)))
        assert train_step(batch) > 0

    def test_self_teacher_scales_label_gradients(self, network: nn.Module, batch: Batch) -> None:
        without_teacher = gradients(network, TrainStep(network, PoseLoss("mse"), CPU), batch)
        with_teacher = TrainStep(network, PoseLoss("mse", Teacher(copy.deepcopy(network), share=0.25)), CPU)
        torch.testing.assert_close(
            gradients(network, with_teacher, batch), 0.75 * without_teacher, rtol=1e-3, atol=1e-3
        )
