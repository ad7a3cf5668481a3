"""Normalization of uint8 crops to the network's input."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featherpose.networks.preprocess import MEAN, STD, Normalize, normalize

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("value", [0, 17, 255])
def test_normalize_uses_imagenet_mean_and_std(value):
    output = normalize(torch.full((1, 4, 6, 3), value, dtype=torch.uint8))
    assert output.shape == (1, 3, 4, 6)
    assert output.dtype == torch.float32
    wanted = [(value / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    torch.testing.assert_close(output[0, :, 2, 3], torch.tensor(wanted), rtol=1e-5, atol=1e-6)


def test_channels_are_not_swapped():
    red = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    red[..., 0] = 255
    output = normalize(red)[0, :, 0, 0]
    assert output[0] > 2
    assert output[2] < -1.7


def test_empty_batch_stays_empty():
    assert normalize(torch.zeros(0, 4, 6, 3, dtype=torch.uint8)).shape == (0, 3, 4, 6)


def test_layout_is_channels_last():
    output = normalize(torch.zeros(2, 4, 6, 3, dtype=torch.uint8))
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_constants_are_not_weights():
    assert not Normalize().state_dict()
