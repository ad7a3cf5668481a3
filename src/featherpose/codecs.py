"""Codecs: joints -> heatmaps for training, heatmaps -> joints for everything else. Plain numpy.

A codec works in crop pixels and names the crop mode it belongs to. What an exported file does inside its graph is the
twin of `decode` here (`export/decode.py`), compared by a test on maps with ties and borders.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Msra:
    """Gaussian targets and quarter-offset decoding (Xiao et al. 2018; HRNet) for crops of `size` (width, height) px.

    `sigma` is in heatmap cells. `unbiased` keeps a joint's place between cells instead of rounding it and does not cut
    the Gaussian off (Zhang et al. 2020, section 3.2).
    """

    size: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0
    unbiased: bool = False

    name: ClassVar[str] = "msra"
    crop_mode: ClassVar[str] = "msra"

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(width, height) in cells."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    def encode(self, keypoints: ArrayLike, visible: ArrayLike) -> tuple[Array, Array]:
        """Joints (..., K, 2) in crop pixels, visible (..., K) -> heatmaps (..., K, h, w) of peak 1, weights (..., K).

        The weight is 1 where visible > 0, and 0 where the Gaussian's patch of 3 sigma lies outside the map. A joint
        whose weight is 0 has an empty map.
        """
        cells = np.asarray(keypoints, np.float64) / self.stride
        mean = cells if self.unbiased else np.trunc(cells + 0.5)
        radius, size = 3 * self.sigma, np.asarray(self.heatmap_size)
        inside = ((mean - radius < size) & (mean + radius + 1 >= 0)).all(axis=-1)
        weights = ((np.asarray(visible) > 0) & inside).astype(np.float32)
        across, down = (self._profile(mean[..., axis], size[axis]) for axis in (0, 1))
        return (weights[..., None] * down)[..., :, None] * across[..., None, :], weights

    def decode(self, heatmaps: ArrayLike) -> tuple[Array, Array]:
        """Heatmaps (..., K, h, w) -> joints (..., K, 2) in crop pixels and scores (..., K), the maxima.

        The first largest cell in row-major order, moved by a quarter of a cell towards the larger neighbour in x and y
        unless it lies on the two outermost cells of either axis (HRNet's rule); (0, 0) where no cell is above 0.
        """
        maps = np.asarray(heatmaps, np.float32)
        cells, scores = peaks(maps)
        offset = 0.25 * np.sign(_slope(maps, cells))
        return ((cells + offset) * self.stride).astype(np.float32), scores

    def _profile(self, mean: NDArray[np.float64], length: int) -> Array:
        """(..., K) means -> (..., K, length) values of the one-dimensional Gaussian."""
        distance = np.arange(length) - mean[..., None]
        values = np.exp(-(distance**2) / (2 * self.sigma**2))
        return (values if self.unbiased else values * (np.abs(distance) <= 3 * self.sigma)).astype(np.float32)


CODECS = {Msra.name: Msra}


def peaks(heatmaps: Array) -> tuple[NDArray[np.int64], Array]:
    """Heatmaps (..., K, h, w) -> largest cells (..., K, 2) as x, y and their values (..., K).

    Of equal cells the first in row-major order; (0, 0) where no cell is above 0.
    """
    flat = _rows(heatmaps)
    index = flat.argmax(axis=-1)
    values = np.take_along_axis(flat, index[..., None], axis=-1)[..., 0]
    index = np.where(values > 0, index, 0)
    width = heatmaps.shape[-1]
    return np.stack([index % width, index // width], axis=-1), values


def merge_flipped(heatmaps: Array, flipped: Array, flip_order: NDArray[np.int64], shift: bool = True) -> Array:
    """Heatmaps (..., K, h, w) of a crop and of its mirror image, as the network gave them -> their average.

    `shift` moves the mirrored maps by one cell to the right, which aligns them in the "msra" crop mode; the first
    column stays (HRNet's flip test).
    """
    back = flipped[..., flip_order, :, ::-1]
    if shift:
        back = np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
    return (heatmaps + back) * np.float32(0.5)


def smooth(heatmaps: ArrayLike, kernel: int = 11) -> Array:
    """Heatmaps (..., h, w) -> blurred by a Gaussian and rescaled to their former maximum (post-Gaussian filter).

    `kernel` cells wide (odd; 11 at 64x48, 17 at 96x72), sigma = 0.3 ((kernel - 1) / 2 - 1) + 0.8 as OpenCV derives it,
    zeros beyond the border (Zhang et al. 2020, equation 9). A map of zeros stays one.
    """
    maps = np.asarray(heatmaps, np.float32)
    blurred = _blur(_blur(maps, kernel).swapaxes(-1, -2), kernel).swapaxes(-1, -2)
    before, after = (array.max(axis=(-2, -1), keepdims=True) for array in (maps, blurred))
    return blurred * (before / np.where(after == 0, 1, after))


def _rows(maps: Array) -> Array:
    """(..., h, w) -> (..., h * w), also of no maps."""
    return maps.reshape(*maps.shape[:-2], maps.shape[-2] * maps.shape[-1])


def _blur(maps: Array, kernel: int) -> Array:
    """(..., h, w) -> the same, convolved along the last axis."""
    radius, sigma = kernel // 2, 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 1) + [(radius, radius)])
    return sum(tap * padded[..., i : i + maps.shape[-1]] for i, tap in enumerate(taps))  # type: ignore[return-value]


def _slope(maps: Array, cells: NDArray[np.int64]) -> Array:
    """Central differences (..., K, 2) of the maps at the cells; 0 at cells on the two outermost of either axis."""
    height, width = maps.shape[-2:]
    x, y = cells[..., 0], cells[..., 1]
    inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    cell = np.where(inner, y * width + x, width + 1)
    flat = _rows(maps)

    def at(offset: int) -> Array:
        return np.take_along_axis(flat, (cell + offset)[..., None], axis=-1)[..., 0]

    return inner[..., None] * np.stack([at(1) - at(-1), at(width) - at(-width)], axis=-1)
