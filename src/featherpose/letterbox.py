"""Letterbox: the transform between a whole image and a network input of both sides a multiple of 32, and its inverse.

The image is scaled so that its longer side is `long_side`, put at the top left of the input, and padded with gray on
the right and at the bottom. The center of the top-left pixel is (0, 0).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.kinds import SIDE_MULTIPLE
from featherpose.size import Size

BORDER = 114
"""Gray level of the padding: what detectors have been trained with since YOLOv3."""


@dataclass(frozen=True)
class Letterbox:
    """An image of `image_size`, scaled to `scaled_size`, at the top left of an input of `size` (all in px)."""

    image_size: Size
    scaled_size: Size
    size: Size

    @classmethod
    def of(cls, image_size: Size, long_side: int) -> "Letterbox":
        """Size of the image and length of the longer side of the scaled image in px -> Letterbox; also enlarges.

        InputError when `long_side` is below 1.
        """
        if long_side < 1:
            raise InputError(f"The long side of the input is {long_side}; wanted at least 1 pixel.")
        factor = long_side / max(image_size.shape)
        scaled = Size(
            height=max(1, round(image_size.height * factor)),
            width=max(1, round(image_size.width * factor)),
        )
        padded = Size(
            height=-(-scaled.height // SIDE_MULTIPLE) * SIDE_MULTIPLE,
            width=-(-scaled.width // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        )
        return cls(image_size, scaled, padded)

    @property
    def factor(self) -> float:
        """Input pixels per image pixel along the longer side; along the other, rounding changes it a little."""
        return max(self.scaled_size.shape) / max(self.image_size.shape)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix, image pixels -> input pixels, as cv2.warpAffine takes it."""
        factors = np.divide(self.scaled_size.xy, self.image_size.xy)
        # The corner of the top-left pixel, (-0.5, -0.5), stays where it is.
        return np.column_stack([np.diag(factors), 0.5 * factors - 0.5])

    def to_input(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) image pixels -> (..., 2) input pixels."""
        return np.asarray(points, np.float64) * self.matrix.diagonal() + self.matrix[:, 2]

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) input pixels -> (..., 2) image pixels."""
        return (np.asarray(points, np.float64) - self.matrix[:, 2]) / self.matrix.diagonal()
