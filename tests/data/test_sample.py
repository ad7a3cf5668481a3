"""Validation split, sample order and random draws: pure functions of names, seed, epoch and index."""

import hashlib

import numpy as np
import pytest

from featherpose.data.sample import epoch_length, epoch_order, is_validation, possible_val_fraction, sample_generator

ORDER = [3, 1, 0, 7, 5, 2, 4, 6]
DRAWS = [0.24876603862810331, 0.8986997265937864]


def test_validation_part_is_the_rule_of_the_photo_name() -> None:
    for name in (f"{number:012d}.jpg" for number in range(300)):
        assert is_validation(name) == (int.from_bytes(hashlib.sha1(name.encode()).digest(), "big") % 20 == 0)
    assert 5 <= sum(is_validation(f"{number:012d}.jpg") for number in range(300)) <= 30


def test_same_sample_same_draws() -> None:
    first, again = (sample_generator(7, 3, 11).random(50) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("other", [(8, 3, 11), (7, 4, 11), (7, 3, 12), (7, 11, 3), (7, 3, 11 + (1 << 31))])
def test_other_seed_epoch_or_sample_other_draws(other: tuple[int, int, int]) -> None:
    assert not np.isin(sample_generator(7, 3, 11).random(50), sample_generator(*other).random(50)).any()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_order_is_a_permutation(count: int) -> None:
    assert np.array_equal(np.sort(epoch_order(0, 0, count)), np.arange(count))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = epoch_order(1, 2, 1000)
    assert np.array_equal(order, epoch_order(1, 2, 1000))
    for other in (epoch_order(1, 3, 1000), epoch_order(2, 2, 1000), np.arange(1000)):
        assert (order == other).mean() < 0.05


def test_draws_are_the_same_on_every_machine() -> None:
    """Recorded values: a run that is resumed after an upgrade must continue with the same samples."""
    assert epoch_order(0, 0, 8).tolist() == ORDER
    np.testing.assert_allclose(sample_generator(0, 1, 2).random(2), DRAWS, rtol=0, atol=1e-15)


def test_shares_say_how_often_each_is_seen() -> None:
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


HOLD_OUTS: list[tuple[str, int, float | None]] = [
    ("no image", 0, None),
    ("one image", 1, None),
    ("few images", 7, 0.333),
    ("many images", 300, 0.05),
]


@pytest.mark.parametrize(("photos", "wanted"), [row[1:] for row in HOLD_OUTS], ids=[row[0] for row in HOLD_OUTS])
def test_the_hold_out_that_leaves_photos_in_both_parts(photos: int, wanted: float | None) -> None:
    names = [f"{number}.jpg" for number in range(photos)]
    assert possible_val_fraction(names * 2) == wanted
    if wanted:
        assert {is_validation(name, wanted) for name in names} == {True, False}
