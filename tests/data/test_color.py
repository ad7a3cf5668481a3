"""Changes of color: the right weights of red, green and blue, and no drift of the mean color."""

from dataclasses import replace

import numpy as np

from featherpose.data.color import ColorAugmentation, jitter_color
from featherpose.data.sample import sample_generator

NONE = ColorAugmentation(**ColorAugmentation.never())


def test_no_color_change_keeps_the_image() -> None:
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert np.array_equal(jitter_color(image, NONE, sample_generator(0, 0, 0)), image)


def test_gray_conversion_uses_luma_weights() -> None:
    """Detects BGR read as RGB: red is darker than green and brighter than blue."""
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    gray = jitter_color(red, replace(NONE, gray_prob=1.0), sample_generator(0, 0, 0))
    assert np.unique(gray).tolist() == [76]


def test_color_changes_keep_the_mean_color() -> None:
    """Over many draws, the mean color stays near the original and varies."""
    image = np.full((8, 8, 3), (140, 110, 90), np.uint8)
    color_only = replace(NONE, color_prob=1.0)
    drawn = np.array([jitter_color(image, color_only, sample_generator(seed, 0, 0))[5, 5] for seed in range(300)])
    np.testing.assert_allclose(drawn.mean(0), (140, 110, 90), atol=8)
    assert (drawn.std(0) > 8).all()
