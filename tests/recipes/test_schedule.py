import pytest

pytest.importorskip("pydantic")
from featherpose.recipes.pose import PoseRecipe, PoseStage
from featherpose.recipes.recipe import Schedule
from featherpose.recipes.schedule import epochs, full_batches, lr_ratio, until_end_of_stage

pytestmark = pytest.mark.torch

PLAN = epochs(
    PoseRecipe(stages=(PoseStage(epochs=2, batch_size=10), PoseStage(epochs=1, batch_size=4))), full_batches(45)
)


def test_epochs_are_consecutive_over_stages() -> None:
    assert [(e.number, e.first, e.steps) for e in PLAN] == [(0, 0, 4), (1, 4, 4), (2, 8, 11)]
    assert PLAN[-1].last == 19


def test_rest_of_a_stage_ends_with_it() -> None:
    assert [[e.number for e in until_end_of_stage(PLAN, epoch)] for epoch in PLAN] == [[0, 1], [1], [2]]


def test_fewer_samples_than_batch_give_one_step() -> None:
    assert epochs(PoseRecipe(stages=(PoseStage(batch_size=64),)), full_batches(3))[0].steps == 1


@pytest.mark.parametrize(
    ("schedule", "lrs"),
    [
        (Schedule(name="constant", warmup=4), {0: 0.25, 3: 1, 18: 1}),
        (Schedule(name="constant", warmup=0), {0: 1, 18: 1}),
        (Schedule(name="cosine", warmup=0, min_lr_ratio=0.1), {0: 1, 19: 0.1}),
        (Schedule(name="multistep", warmup=0, milestones=(1, 2), gamma=0.1), {3: 1, 4: 0.1, 8: 0.01, 18: 0.01}),
    ],
    ids=["constant with warm-up", "constant", "cosine", "multistep"],
)
def test_lr_ratio_follows_each_schedule(schedule: Schedule, lrs: dict[int, float]) -> None:
    assert {step: pytest.approx(lr_ratio(schedule, step, PLAN)) for step in lrs} == lrs
