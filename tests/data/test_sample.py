"""Validation split, sample order and random draws: pure functions of names, seed, epoch and index."""

import hashlib

import numpy as np
import pytest

from featherpose.data.sample import epoch_length, epoch_order, is_validation, possible_val_fraction, sample_generator
from featherpose.errors import DataError

ORDER = [3, 1, 0, 7, 5, 2, 4, 6]
DRAWS = [0.24876603862810331, 0.8986997265937864]


def test_validation_set_is_decided_by_image_name() -> None:
    for name in (f"{number:012d}.jpg" for number in range(300)):
        assert is_validation(name) == (int.from_bytes(hashlib.sha1(name.encode()).digest(), "big") % 20 == 0)
    assert 5 <= sum(is_validation(f"{number:012d}.jpg") for number in range(300)) <= 30


FRACTIONS = [(0.05, 20), (0.1, 10), (0.2, 5), (0.25, 4), (0.333, 3), (0.33, 3), (0.5, 2)]


@pytest.mark.parametrize(("fraction", "divisor"), FRACTIONS)
def test_the_fraction_is_one_of_so_many(fraction: float, divisor: int) -> None:
    for name in (f"{number:012d}.jpg" for number in range(300)):
        digest = int.from_bytes(hashlib.sha1(name.encode()).digest(), "big")
        assert is_validation(name, fraction) == (digest % divisor == 0)


@pytest.mark.parametrize("fraction", [0.3, 0.4, 0.15, 0.9])
def test_a_fraction_that_is_not_one_of_so_many_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match=rf"val_fraction is {fraction}; wanted 1/n"):
        is_validation("a.jpg", fraction)


def test_same_sample_gives_the_same_draws() -> None:
    first, again = (sample_generator(7, 3, 11).random(50) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("other", [(8, 3, 11), (7, 4, 11), (7, 3, 12), (7, 11, 3), (7, 3, 11 + (1 << 31))])
def test_seed_epoch_and_index_change_the_draws(other: tuple[int, int, int]) -> None:
    assert not np.isin(sample_generator(7, 3, 11).random(50), sample_generator(*other).random(50)).any()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_order_is_a_permutation(count: int) -> None:
    assert np.array_equal(np.sort(epoch_order(0, 0, count)), np.arange(count))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = epoch_order(1, 2, 1000)
    assert np.array_equal(order, epoch_order(1, 2, 1000))
    for other in (epoch_order(1, 3, 1000), epoch_order(2, 2, 1000), np.arange(1000)):
        assert (order == other).mean() < 0.05


def test_draws_equal_recorded_values() -> None:
    """Recorded values: a run that is resumed after an upgrade must continue with the same samples."""
    assert epoch_order(0, 0, 8).tolist() == ORDER
    np.testing.assert_allclose(sample_generator(0, 1, 2).random(2), DRAWS, rtol=0, atol=1e-15)


def test_sampling_weights_set_sample_frequency() -> None:
    sampling_weights = np.array([1.0] * 100 + [2.5] * 40 + [0.25] * 200 + [0.0] * 10)
    order = epoch_order(3, 1, len(sampling_weights), sampling_weights)
    assert len(order) == epoch_length(sampling_weights) == 100 + 100 + 50
    times = np.bincount(order % len(sampling_weights), minlength=len(sampling_weights))
    assert (times[:100] == 1).all()
    assert sorted(times[100:140]) == [2] * 20 + [3] * 20
    assert sorted(times[140:340]) == [0] * 150 + [1] * 50
    assert (times[340:] == 0).all()
    assert len(set(order.tolist())) == len(order), "a second occurrence has a different number and augmentation"
    assert not np.array_equal(times, np.bincount(epoch_order(3, 2, 350, sampling_weights) % 350, minlength=350))


VAL_FRACTIONS: list[tuple[str, int, float | None]] = [
    ("no image", 0, None),
    ("one image", 1, None),
    ("few images", 7, 0.333),
    ("many images", 300, 0.05),
]


@pytest.mark.parametrize(
    ("num_images", "wanted"), [row[1:] for row in VAL_FRACTIONS], ids=[row[0] for row in VAL_FRACTIONS]
)
def test_val_fraction_leaves_images_in_both_sets(num_images: int, wanted: float | None) -> None:
    names = [f"{number}.jpg" for number in range(num_images)]
    assert possible_val_fraction(names * 2) == wanted
    if wanted:
        assert {is_validation(name, wanted) for name in names} == {True, False}
