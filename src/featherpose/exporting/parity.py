"""Parity check of an exported file: torch against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.codecs.heatmap import NEIGHBORS, Codec, Newton, blur, newton_step, peaks, values_around
from featherpose.errors import ModelError

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Outputs = tuple[Array, Array, Array]
"""Keypoints (N, K, 2) in crop pixels, scores (N, K), heatmaps (N, K, h, w)."""
Run = Callable[[NDArray[np.uint8]], Outputs]
"""Crops uint8 (N, H, W, 3) RGB -> Outputs."""

MAX_HEATMAP_DIFFERENCE = 1e-4  # allowed difference, as a fraction of the range of all heatmaps
# Allowed difference of keypoints in px, unless ties or flat maps make their location ambiguous.
MAX_KEYPOINT_DIFFERENCE = 0.01
# Rounding error of float32, as a fraction of a map's largest value. Over 25,000 maps (Gaussian, noisy and flat), torch
# and onnxruntime moved keypoints by at most half of what this error explains (`slack`), mostly not at all.
ROUNDING = 1e-6
BATCHES = (1, 5)  # 5: the runtime has engines for 4 and for 1


def check_parity(
    network: Run, engine: Run, crops: Mapping[str, NDArray[np.uint8]], codec: Codec, keypoint_names: Sequence[str]
) -> dict[str, Any]:
    """Network, engine and named crops (H, W, 3) -> the parity record; ModelError where the two differ.

    Checked at batch sizes 1 and 5. The engine's heatmaps equal the network's to 1e-4 of their range. Its scores equal
    those that the codec decodes from its heatmaps exactly, its keypoints to within `slack`. Its keypoints equal the
    network's to 0.01 px, unless the difference of the heatmaps can move them further (`reach`: tied cells, flat maps);
    the record lists such jumps.
    """
    names = list(crops)
    pixels = np.stack(list(crops.values()))  # (N, H, W, 3)
    small, large = BATCHES
    wanted = _run(network, pixels, small)
    again = _run(network, pixels, large)
    extent = _heatmap_range(wanted[2], again[2])
    jumps: dict[tuple[str, str], dict[str, Any]] = {}  # a keypoint that jumps at both batch sizes is listed once
    worst = {"heatmaps": 0.0, "scores": 0.0, "keypoints": 0.0}
    for batch in BATCHES:
        got = _run(engine, pixels, batch)
        differences, jumps_of_batch = _compare(wanted, got, names, codec, keypoint_names, extent)
        worst = {output: max(worst[output], differences[output]) for output in worst}
        jumps |= {(jump["crop"], jump["keypoint"]): jump for jump in jumps_of_batch}
    return {
        "engines": engine_versions(),
        "crops": names,
        "batches": list(BATCHES),
        "allowed": {"heatmaps": MAX_HEATMAP_DIFFERENCE, "keypoints": MAX_KEYPOINT_DIFFERENCE},
        **worst,
        "keypoints_compared": wanted[1].size,
        "jumps": list(jumps.values()),
    }


def engine_versions() -> dict[str, str]:
    """Versions of the two that a parity check compares."""
    return {"torch": _version("torch"), "onnxruntime": _version("onnxruntime", "onnxruntime-gpu")}


def _version(*names: str) -> str:
    """Distribution names of a library -> version of the installed one."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def _heatmap_range(heatmaps: Array, again: Array) -> float:
    """Range of the network's heatmaps; ModelError if it is 0 or not finite, or if they depend on the batch size."""
    extent = float(np.ptp(heatmaps))
    batch_difference = float(np.abs(heatmaps - again).max())
    if not (np.isfinite(extent) and extent > 0):
        raise ModelError(
            f"The network's heatmaps have a range of {extent:g}: nothing to compare. Are its weights trained?"
        )
    if batch_difference > MAX_HEATMAP_DIFFERENCE * extent:
        raise ModelError(
            f"The network's own heatmaps change by {batch_difference / extent:.2g} of their range (allowed "
            f"{MAX_HEATMAP_DIFFERENCE:g}) with the batch size: the network amplifies rounding errors, as an untrained"
            " network does."
        )
    return extent


def _run(run: Run, crops: NDArray[np.uint8], batch: int) -> Outputs:
    outputs = [run(crops[i : i + batch]) for i in range(0, len(crops), batch)]
    keypoints, scores, heatmaps = zip(*outputs, strict=True)
    return np.concatenate(keypoints), np.concatenate(scores), np.concatenate(heatmaps)


def _compare(
    wanted: Outputs, got: Outputs, names: list[str], codec: Codec, keypoint_names: Sequence[str], extent: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Outputs at one batch size -> largest differences of the three outputs, and the jumps."""
    wanted_keypoints, wanted_scores, wanted_heatmaps = wanted
    keypoints, scores, heatmaps = got
    difference = np.abs(heatmaps - wanted_heatmaps).max(axis=(2, 3))  # (N, K)
    _refuse("heatmaps", difference / extent, MAX_HEATMAP_DIFFERENCE, "of their range", names, keypoint_names)
    # The graph's decoder against the codec, on the same heatmaps.
    decoded, decoded_scores = codec.decode(heatmaps)
    rounding = slack(codec, heatmaps)
    off = _distance(keypoints, decoded)
    _refuse("keypoints", off, rounding, "px from the decoded heatmaps", names, keypoint_names)
    _refuse("scores", np.abs(scores - decoded_scores), 0, "from the decoded heatmaps", names, keypoint_names)
    # The engine's keypoints against torch's.
    moved = _distance(keypoints, wanted_keypoints)  # (N, K)
    allowed = np.maximum(MAX_KEYPOINT_DIFFERENCE, reach(codec, wanted_heatmaps, difference) + rounding)
    _refuse("keypoints", moved, allowed, "px", names, keypoint_names)
    jumped = moved > MAX_KEYPOINT_DIFFERENCE
    differences = {
        "heatmaps": float(difference.max()) / extent,
        "scores": float(np.abs(scores - wanted_scores).max()),
        "keypoints": float(moved[~jumped].max(initial=0)),
    }
    jumps = [
        {"crop": names[n], "keypoint": keypoint_names[k], "pixels": float(moved[n, k])}
        for n, k in np.argwhere(jumped).tolist()
    ]
    return differences, jumps


def _distance(a: Array, b: Array) -> Array:
    """Two sets of keypoints (N, K, 2) -> the larger of their differences in x and y (N, K)."""
    return np.abs(a - b).max(axis=-1)


def _refuse(
    output: str, difference: Array, allowed: ArrayLike, unit: str, names: Sequence[str], keypoint_names: Sequence[str]
) -> None:
    """ModelError for the largest of the differences (N, K) that exceeds the allowed one (N, K) or is not a number."""
    allowed = np.broadcast_to(allowed, difference.shape)
    # Not a number is not <= anything; as infinity it is the largest.
    wrong = np.where(difference <= allowed, -1, np.nan_to_num(difference, nan=np.inf))
    n, k = divmod(int(wrong.argmax()), difference.shape[1])
    if wrong[n, k] >= 0:
        raise ModelError(
            f"The parity check failed: {output} differ by {difference[n, k]:.3g} {unit} (allowed "
            f"{allowed[n, k]:.3g}) at {keypoint_names[k]} on crop {names[n]!r}. No file was written."
        )


def slack(codec: Codec, heatmaps: Array) -> Double:
    """Allowed distance in px (N, K) of keypoints decoded in float32 from the codec's: 0 if the codec only compares.

    A Newton step divides by the curvature of the map: the flatter the map, the further rounding moves the keypoint.
    """
    if not isinstance(codec, Newton):
        return np.zeros(heatmaps.shape[:2])
    rounding = ROUNDING * np.abs(heatmaps).max(axis=(2, 3))  # (N, K)
    cells, _ = peaks(heatmaps)
    moved = _newton_reach(codec, heatmaps, cells, rounding)
    return moved * codec.cell.max() + ROUNDING * max(codec.size.shape)


def reach(codec: Codec, heatmaps: Array, change: Array) -> Double:
    """How far in px keypoints (N, K) can move when the cells of their heatmaps change by up to `change` (N, K).

    Infinite where the change can decide which cell is the largest (by its lead over the second largest) or whether it
    is above zero (otherwise the keypoint is (0, 0)).
    """
    cells, first = peaks(heatmaps)
    flat = heatmaps.reshape(*first.shape, -1)  # (N, K, h * w)
    second = np.partition(flat, -2, axis=-1)[..., -2]  # (N, K)
    lead = np.minimum(first - second, np.abs(first))
    if isinstance(codec, Newton):
        moved = _newton_reach(codec, heatmaps, cells, change)
    else:
        moved = _quarter_reach(heatmaps, cells, change)
    # Twice: one cell can rise while the other falls.
    undecided = (lead <= 2 * change) & (change > 0)
    return np.where(undecided, np.inf, moved * codec.cell.max())


def _quarter_reach(heatmaps: Array, cells: NDArray[np.int64], change: Array) -> Double:
    """Half a cell where a central difference can change its sign, else 0."""
    right, left, below, above = np.moveaxis(values_around(heatmaps, cells, NEIGHBORS), -1, 0)
    flips = np.minimum(np.abs(right - left), np.abs(below - above)) <= 2 * change
    return 0.5 * (flips & (change > 0))


def _newton_reach(codec: Newton, heatmaps: Array, cells: NDArray[np.int64], change: Array) -> Double:
    """Bound in cells for a linear equation with both sides perturbed (Higham 2002, theorem 7.2).

    The error of the gradient plus that of the Hessian times the step, over the smallest curvature; infinite where that
    may be 0.
    """
    blurred = blur(heatmaps, codec.kernel, codec.border)
    values = values_around(blurred, cells, codec.square).astype(np.float64)  # (N, K, n)
    logarithms = codec.logarithm(values)
    uncertainty = codec.logarithm(values + change[..., None]) - codec.logarithm(values - change[..., None])
    step = np.abs(newton_step(logarithms, codec.derivatives, codec.epsilon)).max(axis=-1)  # (N, K)
    _, _, xx, xy, yy = np.moveaxis(logarithms @ codec.derivatives.T, -1, 0)  # (N, K) each
    xx = xx + codec.epsilon
    yy = yy + codec.epsilon
    # Weights without their signs: the errors of the values may all add up.
    errors = np.moveaxis(uncertainty @ np.abs(codec.derivatives.T), -1, 0)  # (5, N, K)
    x_error, y_error, xx_error, xy_error, yy_error = errors
    slope = np.maximum(x_error, y_error)
    curvature = np.maximum(xx_error, yy_error) + xy_error  # maximum norm of the Hessian's error
    # A flat map has a determinant of 0; the division then gives infinity, which is the answer.
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = (np.maximum(np.abs(xx), np.abs(yy)) + np.abs(xy)) / np.abs(xx * yy - xy * xy)
        bound = inverse * (slope + curvature * step) / (1 - inverse * curvature)
        return np.where(inverse * curvature < 1, bound, np.inf)
