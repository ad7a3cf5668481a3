"""How other projects put an image into the square input of a detector, in numpy as they publish it."""

from __future__ import annotations

import numpy as np

from featherpose import images
from featherpose.foreign.family import Pixels, Placed
from featherpose.letterbox import BORDER, Fit
from featherpose.size import Size

TOP_LEFT = Fit(shape="square", rounding="down", interpolation="linear", points="corners")
"""rtmlib and YOLOX's own demo: see `top_left`."""
CENTERED = Fit(shape="square", place="center", interpolation="linear", points="corners")
"""Ultralytics: see `centered`."""
STRETCHED = Fit(shape="stretch", interpolation="linear", points="corners")
"""RT-DETR and RF-DETR: see `stretched`."""


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
    height, width = image.shape[:2]
    ratio = min(side / height, side / width)
    scaled = images.resize(image, Size(height=max(1, round(height * ratio)), width=max(1, round(width * ratio))))
    top = round((side - scaled.shape[0]) / 2 - 0.1)
    left = round((side - scaled.shape[1]) / 2 - 0.1)
    canvas = np.full((side, side, 3), BORDER, np.uint8)
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return Placed(canvas, (ratio, ratio), (left, top))


def stretched(image: Pixels, side: int) -> Placed:
    """Both sides scaled to the input's."""
    height, width = image.shape[:2]
    return Placed(images.resize(image, Size(height=side, width=side)), (side / width, side / height))
