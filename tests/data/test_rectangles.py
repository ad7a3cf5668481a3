"""Order of scenes: one shape per batch, everyone at least once, a function of seed and epoch alone."""

from collections import Counter

import numpy as np
import pytest

from featherpose.data.rectangles import epoch_batches, input_shapes, num_batches, shapes_of
from featherpose.size import Size

SHAPES = np.array([0] * 21 + [2] * 8 + [1] * 3)  # with batches of 8: full and partial, full, fewer than one batch


@pytest.mark.parametrize(("long_side", "short_side"), [(320, 256), (416, 320), (512, 384), (640, 480)])
def test_short_side_is_a_multiple_of_32(long_side: int, short_side: int) -> None:
    landscape, square, portrait = input_shapes(long_side)
    assert (landscape.shape, square.shape) == ((short_side, long_side), (long_side, long_side))
    assert portrait.shape == landscape.xy


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(312, 416, 0), (100, 416, 0), (360, 416, 0), (370, 416, 1), (416, 416, 1), (416, 370, 1), (416, 312, 2)],
)
def test_nearest_shape_in_aspect_ratio(height: int, width: int, shape: int) -> None:
    assert shapes_of([Size(height=height, width=width)], 416).tolist() == [shape]


def test_no_scenes_have_no_shapes_and_batches() -> None:
    assert shapes_of([], 416).shape == (0,)
    assert epoch_batches(0, 0, np.zeros(0, np.int64), 8) == []
    assert num_batches(np.zeros(0, np.int64), 8) == 0


def test_every_batch_is_full_and_of_one_shape() -> None:
    for shape, draws in epoch_batches(0, 3, SHAPES, 8):
        assert draws.shape == (8,)
        assert (SHAPES[draws % len(SHAPES)] == shape).all()


def test_every_scene_occurs_and_no_draw_repeats() -> None:
    draws = np.concatenate([batch for _, batch in epoch_batches(0, 0, SHAPES, 8)])
    assert np.bincount(draws % len(SHAPES)).min() >= 1
    assert len(set(draws.tolist())) == len(draws)
    assert Counter((draws[SHAPES[draws % len(SHAPES)] == 1] // len(SHAPES)).tolist()) == {0: 3, 1: 3, 2: 2}


def test_batch_is_filled_up_with_other_scenes() -> None:
    """Where a shape has enough scenes, none occurs twice in a batch."""
    for shape, draws in epoch_batches(1, 0, SHAPES, 8):
        assert shape == 1 or len(set((draws % len(SHAPES)).tolist())) == 8


def test_batches_are_shuffled_over_shapes() -> None:
    orders = {tuple(shape for shape, _ in epoch_batches(0, epoch, SHAPES, 2)) for epoch in range(10)}
    assert len(orders) == 10


@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_number_of_batches_is_equal_in_every_epoch(batch_size: int) -> None:
    counts = {len(epoch_batches(seed, epoch, SHAPES, batch_size)) for seed in (0, 1) for epoch in range(5)}
    assert counts == {num_batches(SHAPES, batch_size)}


def test_same_seed_and_epoch_give_the_same_batches() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate([batch for _, batch in epoch_batches(seed, epoch, SHAPES, 8)]).tolist()

    assert flat(0, 1) == flat(0, 1)
    assert len({tuple(flat(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
