"""Shared blocks against slower equivalents in plain torch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks.layers import TwiceCountedBatchNorm, average_pool_to, interleave, upsample_nearest

pytestmark = pytest.mark.torch


@pytest.fixture
def x():
    return torch.randn(2, 6, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_twice_counted_batch_norm_equals_two_steps(x):
    once, twice = TwiceCountedBatchNorm(6).double(), torch.nn.BatchNorm2d(6).double()
    twice(x)
    torch.testing.assert_close(once(x), twice(x))
    for ours, theirs in zip(once.buffers(), twice.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)


def test_twice_counted_batch_norm_is_fixed_in_eval(x):
    norm = TwiceCountedBatchNorm(6).double().eval()
    norm(x)
    assert norm.num_batches_tracked == 0
    assert norm.running_mean.abs().max() == 0


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_upsample_nearest_repeats_pixels(x, factor):
    repeated = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    assert torch.equal(upsample_nearest(x, factor), repeated)


@pytest.mark.parametrize("size", [(8, 12), (4, 6), (2, 3), (1, 1)])
def test_average_pool_to_is_adaptive_pooling(x, size):
    torch.testing.assert_close(average_pool_to(x, size), torch.nn.functional.adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_interleave_shuffles_and_keeps_layout(x, layout):
    first, second = (half.contiguous(memory_format=layout) for half in x.chunk(2, dim=1))
    joined = interleave(first, second)
    assert torch.equal(joined, torch.nn.ChannelShuffle(2)(torch.cat((first, second), dim=1)))
    assert joined.is_contiguous(memory_format=layout)
