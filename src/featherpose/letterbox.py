"""Letterbox: the transform between a whole image and a network input of both sides a multiple of 32, and its inverse.

The image is scaled so that its longer side is `long_side`, put at the top left of the input, and padded with gray on
the right and at the bottom. The center of the top-left pixel is (0, 0). `Fit` names what other projects do differently.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError, did_you_mean
from featherpose.kinds import SIDE_MULTIPLE
from featherpose.size import Size

BORDER = 114
"""Gray level of the padding: what detectors have been trained with since YOLOv3."""

_WORDS = {
    "shape": ("multiple", "square", "stretch"),
    "place": ("top_left", "center"),
    "rounding": ("nearest", "down"),
    "interpolation": ("area", "linear", "cubic"),
    "points": ("centers", "corners"),
}


@dataclass(frozen=True)
class Fit:
    """How an image is fitted into the input. The defaults are those of featherpose's own models.

    `shape`: "multiple" pads both sides to a multiple of 32, "square" pads to long_side x long_side, "stretch" scales
    both sides to long_side. `place` of the scaled image in the input. `border`: gray level of the padding. `rounding`
    of the scaled sides. `interpolation`: "area" averages an image that shrinks and enlarges bilinearly; "linear" and
    "cubic" do the same in both.
    `points`: (0, 0) is the center of the top-left pixel in both, or, "corners", its outer corner in both: image and
    input pixels then differ by the factor and the padding alone, without half a pixel.
    """

    shape: str = "multiple"
    place: str = "top_left"
    border: int = BORDER
    rounding: str = "nearest"
    interpolation: str = "area"
    points: str = "centers"

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            value = getattr(self, name)
            if value not in words:
                raise InputError(f"{name} of the letterbox is {value!r}.{did_you_mean(str(value), words)}")
        if type(self.border) is not int or not 0 <= self.border <= 255:
            raise InputError(f"border of the letterbox is {self.border!r}, wanted a gray level from 0 to 255.")


@dataclass(frozen=True)
class Letterbox:
    """An image of `image_size`, scaled to `scaled_size`, in an input of `size`; `left` and `top` of it is padding.

    All in px. `fit` is the convention by which it was placed.
    """

    image_size: Size
    scaled_size: Size
    size: Size
    left: int = 0
    top: int = 0
    fit: Fit = Fit()

    @classmethod
    def of(cls, image_size: Size, long_side: int, fit: Fit | None = None) -> "Letterbox":
        """Size of the image and length of the longer side of the scaled image in px -> Letterbox; also enlarges.

        InputError when `long_side` is below 1.
        """
        if long_side < 1:
            raise InputError(f"The long side of the input is {long_side}; wanted at least 1 pixel.")
        fit = fit or Fit()
        square = Size(height=long_side, width=long_side)
        if fit.shape == "stretch":
            return cls(image_size, square, square, fit=fit)
        factor = long_side / max(image_size.shape)
        rounded = round if fit.rounding == "nearest" else int
        scaled = Size(
            height=max(1, rounded(image_size.height * factor)),
            width=max(1, rounded(image_size.width * factor)),
        )
        padded = square if fit.shape == "square" else _padded(scaled)
        if fit.place == "top_left":
            return cls(image_size, scaled, padded, fit=fit)
        # An odd pixel of padding goes to the right and to the bottom (Ultralytics).
        left = (padded.width - scaled.width) // 2
        top = (padded.height - scaled.height) // 2
        return cls(image_size, scaled, padded, left, top, fit)

    @property
    def factor(self) -> float:
        """Input pixels per image pixel along the longer side; along the other, rounding changes it a little."""
        return max(self.scaled_size.shape) / max(self.image_size.shape)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix, image pixels -> input pixels, as cv2.warpAffine takes it."""
        padding = np.array([self.left, self.top], np.float64)
        if self.fit.points == "corners":
            return np.column_stack([np.diag(self._published_factors), padding])
        factors = np.divide(self.scaled_size.xy, self.image_size.xy)
        # The corner of the top-left pixel, (-0.5, -0.5), stays where it is.
        return np.column_stack([np.diag(factors), 0.5 * factors - 0.5 + padding])

    @property
    def _published_factors(self) -> NDArray[np.float64]:
        """(2,) factors in x and y by which other projects divide: one factor unless the image is stretched."""
        if self.fit.shape == "stretch":
            return np.divide(self.scaled_size.xy, self.image_size.xy)
        # Of a square input, because rounding down may take a pixel off the scaled image, not off the factor.
        scaled = self.size if self.fit.shape == "square" else self.scaled_size
        return np.full(2, max(scaled.shape) / max(self.image_size.shape))

    def to_input(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) image pixels -> (..., 2) input pixels."""
        return np.asarray(points, np.float64) * self.matrix.diagonal() + self.matrix[:, 2]

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) input pixels -> (..., 2) image pixels."""
        return (np.asarray(points, np.float64) - self.matrix[:, 2]) / self.matrix.diagonal()


def _padded(scaled: Size) -> Size:
    """Size of the scaled image -> both sides rounded up to a multiple of 32."""
    return Size(
        height=-(-scaled.height // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        width=-(-scaled.width // SIDE_MULTIPLE) * SIDE_MULTIPLE,
    )
