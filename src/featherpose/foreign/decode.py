"""Decoding of heatmaps in nodes of a graph, the counterpart of `codecs.heatmap`; the proof compares the two."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from featherpose.codecs.heatmap import NEIGHBORS, Codec, Newton, blur_matrix
from featherpose.foreign.graph import Nodes

_LARGEST = float(np.finfo(np.float32).max)


def decode(nodes: Nodes, codec: Codec, heatmaps: str, keypoints: int) -> None:
    """Heatmaps (N, K, h, w) -> the outputs `keypoints` (N, K, 2) in crop pixels, `scores` (N, K) and `heatmaps`."""
    height, width = codec.heatmap_size.shape
    maps = nodes.add("Identity", heatmaps, output="heatmaps")
    flat = nodes.reshape(maps, 0, keypoints, height * width)
    peak = nodes.maximum(flat, 2)  # (N, K, 1)
    nodes.reshape(peak, 0, keypoints, output="scores")
    # Times 0 where no cell is above 0, which gives cell (0, 0).
    positive = nodes.cast(nodes.add("Greater", peak, nodes.constant("zero", 0)), np.int64)
    index = nodes.add("Mul", nodes.add("ArgMax", flat, axis=2, keepdims=1), positive)  # (N, K, 1)
    x = nodes.add("Mod", index, nodes.integers(width))
    y = nodes.add("Div", index, nodes.integers(width))
    cells = nodes.cast(nodes.add("Concat", x, y, axis=2), np.float32)  # (N, K, 2)
    if isinstance(codec, Newton):
        offset = _newton(nodes, codec, maps, peak, cells, keypoints)
    else:
        offset = _quarter(nodes, codec, flat, cells)
    moved = nodes.add("Add", cells, offset)
    nodes.add("Mul", moved, nodes.constant("cell", codec.cell), output="keypoints")


def _quarter(nodes: Nodes, codec: Codec, flat: str, cells: str) -> str:
    """Maps (N, K, h * w) and their largest cells (N, K, 2) -> offsets (N, K, 2), a quarter towards the neighbor."""
    values = _around(nodes, codec, flat, cells, NEIGHBORS)  # right, left, below, above
    larger = nodes.add("Gather", values, nodes.integers(0, 2), axis=2)
    smaller = nodes.add("Gather", values, nodes.integers(1, 3), axis=2)
    sign = nodes.add("Sign", nodes.add("Sub", larger, smaller))
    quarter = nodes.add("Mul", sign, nodes.constant("quarter", 0.25))
    return nodes.add("Mul", quarter, _margin(nodes, codec, cells, 2, 1))


def _newton(nodes: Nodes, codec: Newton, maps: str, peak: str, cells: str, keypoints: int) -> str:
    """Maps, their maxima (N, K, 1) and largest cells (N, K, 2) -> steps (N, K, 2) to the maximum of the paraboloid."""
    height, width = codec.heatmap_size.shape
    down = nodes.constant("blur_down", blur_matrix(height, codec.kernel, codec.border))
    across = nodes.constant("blur_across", blur_matrix(width, codec.kernel, codec.border).T)
    blurred = nodes.add("MatMul", nodes.add("MatMul", down, maps), across)
    flat = nodes.reshape(blurred, 0, keypoints, height * width)
    values = _around(nodes, codec, flat, cells, codec.square)  # (N, K, n)
    one = nodes.constant("one", 1)
    nothing = nodes.constant("nothing", 0)
    if codec.rescales:
        after = nodes.maximum(flat, 2)
        divisor = nodes.add("Where", nodes.add("Equal", after, nothing), one, after)
        values = nodes.add("Mul", values, nodes.add("Div", peak, divisor))
    low, high = codec.bounds
    limits = nodes.constant("lowest", low), nodes.constant("highest", min(high, _LARGEST))
    logarithms = nodes.add("Log", nodes.add("Clip", values, *limits))
    derivatives = nodes.add("MatMul", logarithms, nodes.constant("derivatives", codec.derivatives.T))
    x, y, xx, xy, yy = (nodes.columns(derivatives, i, i + 1, 2) for i in range(5))
    epsilon = nodes.constant("epsilon", codec.epsilon)
    xx = nodes.add("Add", xx, epsilon)
    yy = nodes.add("Add", yy, epsilon)
    determinant = _difference_of_products(nodes, xx, yy, xy, xy)
    # Cramer's rule for Hessian * step = -gradient, divided by the determinant at the end.
    step_x = _difference_of_products(nodes, xy, y, yy, x)
    step_y = _difference_of_products(nodes, xy, x, xx, y)
    step = nodes.add("Concat", step_x, step_y, axis=2)
    flat_map = nodes.add("Equal", determinant, nothing)
    quotient = nodes.add("Div", step, nodes.add("Where", flat_map, one, determinant))
    solved = nodes.add("Where", flat_map, nothing, quotient)
    return nodes.add("Mul", solved, _margin(nodes, codec, cells, codec.static_border, codec.static_border))


def _difference_of_products(nodes: Nodes, a: str, b: str, c: str, d: str) -> str:
    """a b - c d."""
    return nodes.add("Sub", nodes.add("Mul", a, b), nodes.add("Mul", c, d))


def _around(nodes: Nodes, codec: Codec, flat: str, cells: str, places: ArrayLike) -> str:
    """Maps (N, K, h * w), cells (N, K, 2), offsets (n, 2) -> values (N, K, n); the outermost cells are repeated."""
    height, width = codec.heatmap_size.shape
    dx, dy = np.asarray(places, np.float32).T
    # In float32, which holds every index exactly: integers have no Clip before opset 12.
    start = nodes.constant("first_cell", 0)
    columns = nodes.add("Add", nodes.columns(cells, 0, 1, 2), nodes.constant("dx", dx))
    columns = nodes.add("Clip", columns, start, nodes.constant("last_column", width - 1))
    rows = nodes.add("Add", nodes.columns(cells, 1, 2, 2), nodes.constant("dy", dy))
    rows = nodes.add("Clip", rows, start, nodes.constant("last_row", height - 1))
    index = nodes.add("Add", nodes.add("Mul", rows, nodes.constant("width", width)), columns)
    return nodes.add("GatherElements", flat, nodes.cast(index, np.int64), axis=2)


def _margin(nodes: Nodes, codec: Codec, cells: str, before: int, after: int) -> str:
    """1.0 where a cell has `before` cells left of and above it, `after` cells right of and below it; else 0.0."""
    end = np.array(codec.heatmap_size.xy) - after
    above = nodes.add("Greater", cells, nodes.constant("margin_before", before - 0.5))
    below = nodes.add("Less", cells, nodes.constant("margin_after", end - 0.5))
    inside = nodes.cast(nodes.add("And", above, below), np.float32)  # (N, K, 2)
    return nodes.add("Mul", nodes.columns(inside, 0, 1, 2), nodes.columns(inside, 1, 2, 2))
