"""How other projects put an image into the square input of a detector, in numpy as they publish it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featherpose import images
from featherpose.foreign.family import Pixels, Placed
from featherpose.letterbox import BORDER, Fit
from featherpose.size import Size

TOP_LEFT = Fit(shape="square", rounding="down", interpolation="linear", points="corners")
"""rtmlib and YOLOX's own demo: see `top_left`."""
CENTERED = Fit(shape="square", place="center", interpolation="linear", points="corners")
"""Ultralytics: see `centered`."""
CENTERED_IN_BLACK = Fit(
    shape="square", place="center", border=0, rounding="down", interpolation="linear", points="corners"
)
"""NanoDet-m: see `centered_in_black`."""
STRETCHED = Fit(shape="stretch", interpolation="linear", points="corners")
"""RT-DETR, RF-DETR and NanoDet-Plus: see `stretched`."""
STRETCHED_CUBIC = Fit(shape="stretch", interpolation="cubic", points="corners")
"""PicoDet: see `stretched_cubic`."""


def top_left(image: Pixels, side: int) -> Placed:
    """Scaled by one factor, sides rounded down; at the top left of gray 114."""
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    scaled = images.resize(image, Size(height=max(1, int(height * ratio)), width=max(1, int(width * ratio))))
    canvas = np.full((side, side, 3), BORDER, np.uint8)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
    return Placed(canvas, (ratio, ratio))


def centered(image: Pixels, side: int) -> Placed:
    """Scaled by one factor, sides rounded; in the middle of gray 114."""
    return _in_the_middle(image, side, round, BORDER)


def centered_in_black(image: Pixels, side: int) -> Placed:
    """Scaled by one factor, sides rounded down; in the middle of black."""
    return _in_the_middle(image, side, int, 0)


def _in_the_middle(image: Pixels, side: int, rounded: Callable[[float], int], border: int) -> Placed:
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    scaled = images.resize(image, Size(height=max(1, rounded(height * ratio)), width=max(1, rounded(width * ratio))))
    top = round((side - scaled.shape[0]) / 2 - 0.1)
    left = round((side - scaled.shape[1]) / 2 - 0.1)
    canvas = np.full((side, side, 3), border, np.uint8)
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return Placed(canvas, (ratio, ratio), (left, top))


def stretched(image: Pixels, side: int) -> Placed:
    """Both sides scaled to the input's, bilinear."""
    return _to_square(image, side, "linear")


def stretched_cubic(image: Pixels, side: int) -> Placed:
    """Both sides scaled to the input's, bicubic."""
    return _to_square(image, side, "cubic")


def _to_square(image: Pixels, side: int, interpolation: str) -> Placed:
    height, width = image.shape[:2]
    square = Size(height=side, width=side)
    return Placed(images.resize(image, square, interpolation), (side / width, side / height))
