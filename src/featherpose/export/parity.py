"""The proof of an exported file: the engine that will run it against the network it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.codecs import Msra
from featherpose.errors import ModelError

Array = NDArray[np.float32]
Outputs = tuple[Array, Array, Array]
"""Keypoints (N, K, 2) in crop pixels, scores (N, K), heatmaps (N, K, h, w)."""
Run = Callable[[NDArray[np.uint8]], Outputs]
"""Crops uint8 (N, H, W, 3) RGB -> Outputs."""

HEATMAPS = 1e-4  # allowed difference, as a part of the range of all heatmaps
PIXELS = 0.01  # allowed difference of joints, unless they jump at a tie
BATCHES = (1, 5)  # 5: the runtime has engines for 4 and for 1


def prove(
    network: Run, engine: Run, crops: Mapping[str, NDArray[np.uint8]], codec: Msra, joints: Sequence[str]
) -> dict[str, Any]:
    """Both sides and named crops (H, W, 3) -> the record of their agreement; ModelError where they differ.

    In batches of 1 and of 5: the engine's heatmaps are the network's to 1e-4 of their range; its joints and scores
    are exactly what the codec makes of its heatmaps; its joints are the network's to 0.01 px unless two cells are
    equal up to the difference of the heatmaps, and then the jump is named.
    """
    names, pixels = list(crops), np.stack(list(crops.values()))
    wanted, again = (_run(network, pixels, batch) for batch in BATCHES)
    extent = _sound_range(wanted[2], again[2])
    rounds = [_compare(wanted, _run(engine, pixels, batch), names, codec, joints, extent) for batch in BATCHES]
    jumps = {(jump["crop"], jump["joint"]): jump for round in rounds for jump in round.pop("jumps")}
    worst = {key: max(round[key] for round in rounds) for key in rounds[0]}
    return {
        "engines": {"torch": _version("torch"), "onnxruntime": _version("onnxruntime", "onnxruntime-gpu")},
        "crops": names,
        "batches": list(BATCHES),
        "allowed": {"heatmaps": HEATMAPS, "keypoints": PIXELS},
        **worst,
        "joints": wanted[1].size,
        "jumps": list(jumps.values()),
    }


def _version(*names: str) -> str:
    """Names under which a library is distributed -> the version of the one that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def _sound_range(heatmaps: Array, again: Array) -> float:
    """The range of the network's heatmaps, refused if there is none or if the network contradicts itself."""
    extent, unsteady = float(np.ptp(heatmaps)), float(np.abs(heatmaps - again).max())
    if not (np.isfinite(extent) and extent > 0):
        raise ModelError(
            f"The network's heatmaps have a range of {extent:g}: nothing to compare. Are its weights trained?"
        )
    if unsteady > HEATMAPS * extent:
        raise ModelError(
            f"The network's own heatmaps change by {unsteady / extent:.2g} of their range (allowed {HEATMAPS:g}) with "
            "the size of the batch: rounding errors grow in it, as they do in a network that was never trained."
        )
    return extent


def _run(run: Run, crops: NDArray[np.uint8], batch: int) -> Outputs:
    rows = [run(crops[i : i + batch]) for i in range(0, len(crops), batch)]
    keypoints, scores, heatmaps = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return keypoints, scores, heatmaps


def _compare(
    wanted: Outputs, got: Outputs, names: list[str], codec: Msra, joints: Sequence[str], extent: float
) -> dict[str, Any]:
    """One batch size -> largest differences of the three outputs, and the jumps."""
    apart = np.abs(got[2] - wanted[2]).max(axis=(2, 3))
    _refuse("heatmaps", apart / extent, HEATMAPS, "of their range", names, joints)
    keypoints, scores = codec.decode(got[2])
    _refuse("keypoints", _distance(got[0], keypoints), 0, "px from the decoded heatmaps", names, joints)
    _refuse("scores", np.abs(got[1] - scores), 0, "from the decoded heatmaps", names, joints)
    moved = _distance(got[0], wanted[0])
    tied = (moved > PIXELS) & (margins(wanted[2]) <= 2 * apart)
    _refuse("keypoints", np.where(tied, 0, moved), PIXELS, "px", names, joints)
    return {
        "heatmaps": float(apart.max()) / extent,
        "scores": float(np.abs(got[1] - wanted[1]).max()),
        "keypoints": float(moved[~tied].max(initial=0)),
        "jumps": [
            {"crop": names[n], "joint": joints[k], "pixels": float(moved[n, k])} for n, k in np.argwhere(tied).tolist()
        ],
    }


def _distance(a: Array, b: Array) -> Array:
    """Joints (N, K, 2) twice -> the larger of their differences in x and y (N, K)."""
    return np.abs(a - b).max(axis=-1)


def _refuse(output: str, apart: Array, allowed: float, unit: str, names: Sequence[str], joints: Sequence[str]) -> None:
    """Raise for the largest of the differences (N, K) if it is above what is allowed, or not a number."""
    n, k = divmod(int(np.nan_to_num(apart, nan=np.inf).argmax()), apart.shape[1])
    if not apart[n, k] <= allowed:
        raise ModelError(
            f"The exported graph is not the network: {output} differ by {apart[n, k]:.3g} {unit} (allowed {allowed:g}) "
            f"at {joints[k]} on crop {names[n]!r}. No file was written."
        )


def margins(heatmaps: Array) -> Array:
    """Heatmaps (N, K, h, w) -> (N, K): by how much a heatmap would have to change before its joint could move.

    The smallest of: the maximum's lead over the second cell, its distance from zero (below which a joint is (0, 0)),
    and the central differences that choose the side of the quarter offset.
    """
    cells = heatmaps.reshape(*heatmaps.shape[:2], -1)
    second, first = np.moveaxis(np.partition(cells, -2, axis=-1)[..., -2:], -1, 0)
    peak = cells.argmax(axis=-1)[..., None]
    # np.gradient halves the difference of the two neighbours.
    slopes = [2 * np.abs(np.gradient(heatmaps, axis=axis)).reshape(cells.shape) for axis in (-2, -1)]
    at_peak = [np.take_along_axis(slope, peak, axis=-1)[..., 0] for slope in slopes]
    return np.minimum.reduce([first - second, np.abs(first), *at_peak])
