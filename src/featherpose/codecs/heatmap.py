"""Heatmap codecs: keypoints -> heatmaps for training, heatmaps -> keypoints. Plain numpy.

A codec works in crop pixels and names the crop mode it needs. Exported files decode inside their graph
(`exporting/decode.py`); a test compares that with `decode` here, on maps with ties and maxima at the border.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError
from featherpose.size import Size

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Border = Literal["constant", "reflect"]
"""Padding of a map before a blur: zeros, or the map mirrored at its outermost cells (which are not repeated)."""


def _derivatives(value: ArrayLike, first: ArrayLike, second: ArrayLike, mixed: ArrayLike | None = None) -> Double:
    """Weights along one axis -> (5, n) weights that turn the values in a square into derivatives x, y, xx, xy, yy."""
    value = np.asarray(value, np.float64)
    first = np.asarray(first, np.float64)
    second = np.asarray(second, np.float64)
    # Each derivative applies one weighting down the columns and one across the rows.
    pairs = [(value, first), (first, value), (value, second), (first, first), (second, value)]
    weights = np.array([np.outer(down, across) for down, across in pairs], np.float64)  # (5, side, side)
    if mixed is not None:
        weights[3] = mixed
    return weights.reshape(5, -1)


def _square(radius: int) -> NDArray[np.int64]:
    """Radius in cells -> offsets ((2 radius + 1)^2, 2) x, y of a square around a cell, in row-major order."""
    side = range(-radius, radius + 1)
    return np.array([(x, y) for y in side for x in side])


NEIGHBORS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])  # offsets (4, 2) x, y: right, left, below, above
SQUARE_3 = _square(1)
SQUARE_5 = _square(2)
# DERIVATIVES_5 is DARK's, whose second differences are central differences of central differences; _3 is UDP-Pose's.
DERIVATIVES_5 = _derivatives([0, 0, 1, 0, 0], [0, -0.5, 0, 0.5, 0], [0.25, 0, -0.5, 0, 0.25])
DERIVATIVES_3 = _derivatives([0, 1, 0], [-0.5, 0, 0.5], [1, -2, 1], [[0.5, -0.5, 0], [-0.5, 1, -0.5], [0, -0.5, 0.5]])


@dataclass(frozen=True)
class Codec(ABC):
    """Gaussian targets and arg-max decoding for crops of `size` in px; `sigma` is in heatmap cells.

    Each codec defines the subcell position of a Gaussian (`_place`) and of a keypoint near its maximum (`_offset`).
    """

    size: Size
    stride: int = 4
    sigma: float = 2.0

    name: ClassVar[str]
    crop_mode: ClassVar[str] = "msra"
    flip_shift: ClassVar[bool] = True
    """Whether `merge_flipped` shifts the flipped maps: "udp" cells are symmetric about the flip axis, "msra" not."""
    blurs: ClassVar[bool] = False
    """Whether `decode` applies a Gaussian filter itself; filtering the maps before would do it twice."""

    def __post_init__(self) -> None:
        if not (type(self.stride) is int and self.stride >= 1):
            raise InputError(f"stride is {self.stride!r}, wanted a number of pixels, at least 1.")
        if not (type(self.sigma) in (int, float) and self.sigma > 0):
            raise InputError(f"sigma is {self.sigma!r}, wanted a number of heatmap cells above 0.")

    @property
    def heatmap_size(self) -> Size:
        """In cells."""
        return Size(height=self.size.height // self.stride, width=self.size.width // self.stride)

    @property
    def cell(self) -> Double:
        """(2,) size of a cell in crop pixels, in x and y."""
        return np.full(2, self.stride, np.float64)

    def encode(self, keypoints: ArrayLike, visible: ArrayLike) -> tuple[Array, Array]:
        """Keypoints (..., K, 2) in crop pixels, visible (..., K) -> heatmaps (..., K, h, w), peak 1, weights (..., K).

        The weight is 1 where visible > 0, and 0 where the Gaussian's patch of 3 sigma is outside the map. A keypoint
        of weight 0 has a map of zeros.
        """
        down, across, weights = self.profiles(keypoints, visible)
        return down[..., :, None] * across[..., None, :], weights

    def profiles(self, keypoints: ArrayLike, visible: ArrayLike) -> tuple[Array, Array, Array]:
        """As `encode` -> the factors of the heatmaps, down (..., K, h) and across (..., K, w), and weights (..., K).

        A Gaussian is the product of its profiles: h + w exponentials instead of h * w, and as many numbers to send to
        another device.
        """
        mean, patch = self._place(np.asarray(keypoints, np.float64) / self.cell)  # (..., K, 2) in cells
        center = mean if patch is None else patch
        radius = 3 * self.sigma
        size = np.asarray(self.heatmap_size.xy)
        # As in the published code, the exclusive end of the patch is compared with 0, one cell beyond the border.
        inside = ((center - radius < size) & (center + radius + 1 >= 0)).all(axis=-1)  # (..., K)
        weights = ((np.asarray(visible) > 0) & inside).astype(np.float32)
        across = self._profile(mean, patch, axis=0)  # (..., K, w)
        down = weights[..., None] * self._profile(mean, patch, axis=1)  # (..., K, h)
        return down, across, weights

    def decode(self, heatmaps: ArrayLike) -> tuple[Array, Array]:
        """Heatmaps (..., K, h, w) -> keypoints (..., K, 2) in crop pixels and scores (..., K), the maxima.

        The largest cell, the first one in row-major order, or (0, 0) where no cell is above 0, plus the codec's offset.
        """
        maps = np.asarray(heatmaps, np.float32)
        cells, scores = peaks(maps)  # (..., K, 2), (..., K)
        keypoints = (cells + self._offset(maps, cells)) * self.cell
        return keypoints.astype(np.float32), scores

    @abstractmethod
    def _place(self, cells: Double) -> tuple[Double, Double | None]:
        """Keypoints (..., K, 2) in cells -> the Gaussians' means, and the centers of the patches of 3 sigma to which
        they are truncated, or None where they are not truncated."""

    @abstractmethod
    def _offset(self, maps: Array, cells: NDArray[np.int64]) -> Double:
        """Heatmaps (..., K, h, w) and their largest cells (..., K, 2) -> offset from these (..., K, 2), in cells."""

    def _profile(self, mean: Double, patch: Double | None, axis: int) -> Array:
        """Means and patch centers (..., K, 2) -> (..., K, length) values of the Gaussian along one axis."""
        places = np.arange(self.heatmap_size.xy[axis])  # (length,)
        distances = places - mean[..., axis, None]  # (..., K, length)
        values = np.exp(-(distances**2) / (2 * self.sigma**2))
        if patch is not None:
            values *= np.abs(places - patch[..., axis, None]) <= 3 * self.sigma
        return values.astype(np.float32)


@dataclass(frozen=True)
class Msra(Codec):
    """Gaussian targets and quarter-offset decoding (Xiao et al. 2018; HRNet).

    `unbiased` keeps a keypoint's position between cells instead of rounding it and does not truncate the Gaussian
    (Zhang et al. 2020, section 3.2). Decoding moves by a quarter of a cell towards the larger neighbor in x and y,
    unless the cell is one of the two outermost of either axis (HRNet's rule).
    """

    unbiased: bool = False

    name: ClassVar[str] = "msra"

    def _place(self, cells: Double) -> tuple[Double, Double | None]:
        if self.unbiased:
            return cells, None
        nearest = _nearest(cells)
        return nearest, nearest

    def _offset(self, maps: Array, cells: NDArray[np.int64]) -> Double:
        inner = (cells > 1) & (cells < np.array(self.heatmap_size.xy) - 1)
        right, left, below, above = np.moveaxis(values_around(maps, cells, NEIGHBORS), -1, 0)  # (..., K) each
        slopes = np.stack([right - left, below - above], axis=-1)  # (..., K, 2)
        return 0.25 * np.sign(slopes, dtype=np.float64) * inner.all(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Newton(Codec):
    """Decoding by a Newton step on the logarithm of the blurred map, where a Gaussian is a paraboloid.

    DARK and UDP share the computation and differ in the class variables below, which decoding inside an exported graph
    reads as well.
    """

    blurs: ClassVar[bool] = True
    border: ClassVar[Border]
    rescales: ClassVar[bool]
    """Whether the blurred map is rescaled to its maximum before the blur."""
    bounds: ClassVar[tuple[float, float]]
    """Range to which values are clipped before the logarithm."""
    square: ClassVar[NDArray[np.int64]]
    """(n, 2) offsets around the largest cell of the values that are used."""
    derivatives: ClassVar[Double]
    """(5, n) weights that turn the logarithms of these values into derivatives x, y, xx, xy, yy."""
    epsilon: ClassVar[float] = 0.0
    """Added to xx and yy."""
    static_border: ClassVar[int] = 0
    """Number of outermost cells at either end of an axis where no step is taken."""

    @property
    def kernel(self) -> int:
        """Width in cells of the Gaussian filter whose sigma, by OpenCV's rule, is closest to the targets'.

        11 for sigma 2 (64x48 cells) and 17 for sigma 3 (96x72), the published settings of DARK and UDP.
        """
        return 2 * max(round((self.sigma - 0.8) / 0.3 + 1), 0) + 1

    def _offset(self, maps: Array, cells: NDArray[np.int64]) -> Double:
        blurred = gaussian_filter(maps, self.kernel) if self.rescales else blur(maps, self.kernel, self.border)
        logarithms = self.logarithm(values_around(blurred, cells, self.square))  # (..., K, n)
        step = newton_step(logarithms, self.derivatives, self.epsilon)  # (..., K, 2)
        end = np.array(self.heatmap_size.xy) - self.static_border
        moves = (cells >= self.static_border) & (cells < end)
        return step * moves.all(axis=-1, keepdims=True)

    def logarithm(self, values: ArrayLike) -> Double:
        """Blurred values (...) -> their logarithms (...) after clipping to `bounds`."""
        low, high = self.bounds
        return np.log(np.clip(np.asarray(values, np.float64), low, high))


@dataclass(frozen=True)
class Dark(Newton):
    """Unrounded Gaussians and a Newton step on the blurred map's logarithm (DARK; Zhang et al. 2020, section 3).

    Decoding blurs with `kernel` and zeros beyond the border, rescales to the former maximum, takes the logarithm
    of at least 1e-10 and steps from the largest cell to the maximum of the paraboloid given by the first and second
    central differences there, however far; the two outermost cells of either axis take no step. Where code bases
    differ: crops and cells are mmpose's ("msra"; DarkPose itself crops with a unit length of size - 1), and a map
    without a cell above 0 gives (0, 0), as in DarkPose.
    """

    name: ClassVar[str] = "dark"
    border: ClassVar[Border] = "constant"
    rescales: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (1e-10, np.inf)
    square: ClassVar[NDArray[np.int64]] = SQUARE_5
    derivatives: ClassVar[Double] = DERIVATIVES_5
    static_border: ClassVar[int] = 2

    def _place(self, cells: Double) -> tuple[Double, Double | None]:
        return cells, None


@dataclass(frozen=True)
class Udp(Newton):
    """Gaussians and a Newton step where the unit of length is size - 1 (UDP; Huang et al. 2020, section 3).

    The Gaussian's mean is not rounded; its patch is centered on the nearest cell. Decoding follows the authors' code
    (UDP-Pose): a blur with `kernel` that mirrors the map at its border, without rescaling; the logarithm of values
    clipped to 0.001 and 50; a Newton step with differences between neighbors at every cell, including the border,
    where the outermost cells are repeated. mmpose 1.x blurs with zeros beyond the border instead, which moves keypoints
    near it by up to 1.6 cells, and scales back by width / (w - 1): this is not followed. This is the variant with one
    map per keypoint, not the one with offset maps.
    """

    name: ClassVar[str] = "udp"
    crop_mode: ClassVar[str] = "udp"
    flip_shift: ClassVar[bool] = False
    border: ClassVar[Border] = "reflect"
    rescales: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.001, 50.0)
    square: ClassVar[NDArray[np.int64]] = SQUARE_3
    derivatives: ClassVar[Double] = DERIVATIVES_3
    epsilon: ClassVar[float] = float(np.finfo(np.float32).eps)  # so that a flat map has a step of 0

    @property
    def cell(self) -> Double:
        """(2,) size of a cell in crop pixels: (size - 1) / (cells - 1)."""
        return (np.array(self.size.xy) - 1) / (np.array(self.heatmap_size.xy) - 1)

    def _place(self, cells: Double) -> tuple[Double, Double | None]:
        return cells, _nearest(cells)


def peaks(heatmaps: Array) -> tuple[NDArray[np.int64], Array]:
    """Heatmaps (..., K, h, w) -> largest cells (..., K, 2) as x, y and their values (..., K).

    Of equal cells, the first in row-major order; (0, 0) where no cell is above 0.
    """
    flat = _rows(heatmaps)  # (..., K, h * w)
    index = flat.argmax(axis=-1)  # (..., K)
    values = np.take_along_axis(flat, index[..., None], axis=-1)[..., 0]
    index = np.where(values > 0, index, 0)
    width = heatmaps.shape[-1]
    return np.stack([index % width, index // width], axis=-1), values


def values_around(maps: Array, cells: NDArray[np.int64], places: NDArray[np.int64]) -> Array:
    """Maps (..., K, h, w), cells (..., K, 2) and offsets from them (n, 2) -> values (..., K, n).

    Beyond the border the outermost cells are repeated.
    """
    height, width = maps.shape[-2:]
    inside = np.clip(cells[..., None, :] + places, 0, (width - 1, height - 1))  # (..., K, n, 2)
    x, y = np.moveaxis(inside, -1, 0)  # (..., K, n) each
    return np.take_along_axis(_rows(maps), y * width + x, axis=-1)


def newton_step(values: Double, derivatives: Double, epsilon: float = 0.0) -> Double:
    """Values (..., n) in a square, weights (5, n) of their derivatives -> step (..., 2) to where the gradient is 0.

    `epsilon` is added to both second derivatives; where the determinant of the Hessian is 0 the step is 0.
    """
    x, y, xx, xy, yy = np.moveaxis(values @ derivatives.T, -1, 0)  # (...) each
    xx = xx + epsilon
    yy = yy + epsilon
    determinant = xx * yy - xy * xy
    # Cramer's rule for Hessian * step = -gradient, divided by the determinant at the end.
    step = np.stack([xy * y - yy * x, xy * x - xx * y], axis=-1)  # (..., 2)
    solvable = determinant != 0
    return step * solvable[..., None] / np.where(solvable, determinant, 1)[..., None]


def merge_flipped(heatmaps: Array, flipped: Array, flip_order: NDArray[np.int64], shift: bool) -> Array:
    """Network outputs (..., K, h, w) of a crop and of its mirrored copy -> their average (flip test).

    `shift` (the codec's `flip_shift`) moves the maps of the mirrored crop, flipped back, by one cell to the right; the
    first column stays (as in HRNet).
    """
    back = flipped[..., flip_order, :, ::-1]
    # Flipped back, cell j shows pixel 4 j + 3 in place of 4 j: three quarters of a cell, which HRNet rounds to one.
    if shift:
        back = np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
    return (heatmaps + back) * np.float32(0.5)


def gaussian_filter(heatmaps: ArrayLike, kernel: int = 11) -> Array:
    """Heatmaps (..., h, w) -> blurred by a Gaussian filter and rescaled to their former maximum.

    The filter is `kernel` cells wide (odd; 11 at 64x48, 17 at 96x72), with zeros beyond the border (Zhang et al. 2020,
    equation 9). A map of zeros stays one.
    """
    maps = np.asarray(heatmaps, np.float32)
    blurred = blur(maps, kernel, "constant")
    before = maps.max(axis=(-2, -1), keepdims=True)  # (..., 1, 1)
    after = blurred.max(axis=(-2, -1), keepdims=True)
    return blurred * (before / np.where(after == 0, 1, after))


def blur(maps: Array, kernel: int, border: Border) -> Array:
    """Maps (..., h, w) -> maps (..., h, w) blurred by a Gaussian filter `kernel` cells wide (odd).

    In double precision, so that a flat map stays exactly flat: a Newton step would magnify rounding errors.
    """
    height, width = maps.shape[-2:]
    down = blur_matrix(height, kernel, border)  # (h, h)
    across = blur_matrix(width, kernel, border).T  # (w, w)
    # One by one: all maps at once in double precision would need several times their memory.
    blurred = [down @ cells @ across for cells in maps.reshape(-1, height, width)]
    return np.array(blurred, np.float32).reshape(maps.shape)


def blur_matrix(length: int, kernel: int, border: Border) -> Double:
    """(length, length) matrix that blurs a column of cells when multiplied from the left."""
    # The blur of every unit vector: `shifted[i]` reads cells that are i - kernel // 2 away, padding included.
    margin = kernel // 2
    padded = np.pad(np.eye(length), [(margin, margin), (0, 0)], border)  # (length + 2 margin, length)
    shifted = [padded[i : i + length] for i in range(kernel)]
    return np.tensordot(gaussian_kernel(kernel), shifted, 1)


def gaussian_kernel(kernel: int) -> Double:
    """Width in cells (odd) -> the weights (kernel,) of a Gaussian filter with OpenCV's sigma for that width.

    sigma = 0.3 ((kernel - 1) / 2 - 1) + 0.8. (Below 11 cells, OpenCV uses tables that differ between versions, but for
    3 cells, PP-TinyPose's width, all have the same weights.)
    """
    if kernel == 3:
        return np.array([0.25, 0.5, 0.25])
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    distances = np.arange(kernel) - kernel // 2
    weights = np.exp(-(distances**2) / (2 * sigma**2))
    return weights / weights.sum()


def _nearest(cells: Double) -> Double:
    """Positions in cells -> the nearest cells; halves are rounded up, negative values towards 0 (as in HRNet)."""
    return np.trunc(cells + 0.5)


def _rows(maps: Array) -> Array:
    """(..., h, w) -> (..., h * w), also for zero maps."""
    return maps.reshape(*maps.shape[:-2], maps.shape[-2] * maps.shape[-1])
