"""Box codec: the points of a detector's maps, and boxes as distances from these points (FCOS, Tian et al. 2019).

All in input pixels, with the center of the top-left pixel at (0, 0).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.size import Size

NO_BOX = 0
"""Kind of a row without a box, which fills the rows of a batch up to the same number."""
PERSON = 1
"""Kind of a box around one person."""
IGNORED = 2
"""Kind of a box in which detections are neither right nor wrong: a crowd, or a box that may be of no person."""


def points(size: Size, strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Input size and strides of the maps -> points (P, 2) as x, y, and the stride (P,) of each point.

    The maps in the order of `strides`, each row by row; the point of cell i is at (i + 0.5) * stride - 0.5, the center
    of its stride x stride pixels.
    """
    levels = [_cells(size, stride) for stride in strides]
    placed = [(cells + 0.5) * stride - 0.5 for cells, stride in zip(levels, strides, strict=True)]
    counts = [len(cells) for cells in levels]
    return np.concatenate(placed).astype(np.float32), np.repeat(np.asarray(strides, np.float32), counts)


def encode(points: ArrayLike, boxes_xyxy: ArrayLike) -> NDArray[np.float32]:
    """Points (..., 2) and boxes (..., 4) -> distances (..., 4) to left, top, right, bottom; negative from outside."""
    origins = np.asarray(points, np.float32)
    boxes = np.asarray(boxes_xyxy, np.float32)
    return np.concatenate([origins - boxes[..., :2], boxes[..., 2:] - origins], axis=-1)


def decode(points: ArrayLike, distances: ArrayLike) -> NDArray[np.float32]:
    """Points (..., 2) and distances (..., 4) to left, top, right, bottom -> boxes (..., 4) left, top, right, bottom."""
    origins = np.asarray(points, np.float32)
    sides = np.asarray(distances, np.float32)
    return np.concatenate([origins - sides[..., :2], origins + sides[..., 2:]], axis=-1)


def _cells(size: Size, stride: int) -> NDArray[np.float64]:
    """(cells, 2) x, y of the cells of one map, row by row."""
    down, across = np.indices((size.height // stride, size.width // stride))
    return np.stack([across, down], axis=-1).reshape(-1, 2).astype(np.float64)
