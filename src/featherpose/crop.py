"""Crops: the affine transform between image pixels and network input pixels, and its inverse, in one place.

A crop maps a region of the image, given by its center and extent, to the network's input. Two conventions exist:

- "msra" (Xiao et al. 2018, HRNet): one scale, size / extent; the region's center maps to size / 2.
- "udp" (Huang et al. 2020): the unit of length is size - 1; the region's center maps to (size - 1) / 2.

In both, the center of the top-left pixel is (0, 0).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.size import Size

MODES = ("msra", "udp")
PADDING = 1.25
"""Size of the crop relative to the box: the default of every published top-down system (Xiao et al. 2018)."""


@dataclass(frozen=True)
class Crop:
    """A region of an image and the network input, `size` in px, that it fills.

    `center` (x, y) and `extent` (width, height) are in image pixels. `rotation` is in degrees; a positive one rotates
    the person counterclockwise in "msra" and clockwise in "udp", as in the published code. `flip` mirrors the crop
    horizontally.
    """

    center: tuple[float, float]
    extent: tuple[float, float]
    size: Size
    mode: str = "msra"
    rotation: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"Crop mode {self.mode!r} is unknown; wanted one of {', '.join(MODES)}.")

    @classmethod
    def from_box(cls, box_xyxy: ArrayLike, size: Size, mode: str = "msra", padding: float = PADDING) -> "Crop":
        """Box (4,) in image pixels -> its crop, extended to the aspect ratio of `size` and enlarged by `padding`.

        InputError when the box has no area.
        """
        left, top, right, bottom = (float(value) for value in np.asarray(box_xyxy, np.float64))
        width, height, aspect = right - left, bottom - top, size.width / size.height
        if not (width > 0 and height > 0):
            raise InputError(f"Box {[left, top, right, bottom]} has no area; wanted left < right and top < bottom.")
        width, height = max(width, height * aspect), max(height, width / aspect)
        return cls(((left + right) / 2, (top + bottom) / 2), (width * padding, height * padding), size, mode)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix, image pixels -> crop pixels, as cv2.warpAffine takes it."""
        size, unit = np.asarray(self.size.xy, np.float64), self.mode == "udp"
        cos, sin = np.cos(np.deg2rad(self.rotation)), np.sin(np.deg2rad(self.rotation))
        if unit:
            linear = ((size - 1) / self.extent)[:, None] * np.array([[cos, -sin], [sin, cos]])
        else:
            linear = size[0] / self.extent[0] * np.array([[cos, sin], [-sin, cos]])
        offset = (size - unit) / 2 - linear @ np.asarray(self.center, np.float64)
        matrix = np.column_stack([linear, offset]).astype(np.float64)
        if self.flip:
            matrix[0] = np.array([0, 0, size[0] - 1]) - matrix[0]
        return matrix

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix, crop pixels -> image pixels."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return np.column_stack([linear, -linear @ self.matrix[:, 2]]).astype(np.float64)

    def to_crop(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) image pixels -> (..., 2) crop pixels. Left and right keypoints are not swapped by `flip`."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) crop pixels -> (..., 2) image pixels."""
        return np.asarray(points, np.float64) @ self.inverse[:, :2].T + self.inverse[:, 2]
