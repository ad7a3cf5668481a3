"""Latency of ONNX models on this machine: exported, adopted, or any other file, several of them in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.manifest import ImageManifest, Manifest, PoseManifest
from featherpose.onnx_metadata import KEY
from featherpose.runtime.session import Session, open_plain
from featherpose.size import Size

IMAGE_SIZE = Size(height=480, width=640)
"""Of the image for which models that take whole images are measured."""
ROUNDS = 10
"""Each model runs once in every round, so that a slowdown of the machine affects all of them."""

Run = Callable[[], Any]


@dataclass(frozen=True)
class Latency:
    """Latency of one model for one input, of a batch size of 1."""

    model: str
    kind: str
    """pose, detector, poses, bottom_up; empty: a file without a manifest."""
    input: str
    """Shape of the input."""
    ms: float
    """Median over the runs."""
    low_ms: float
    high_ms: float
    """10th and 90th percentile of the runs."""
    ratio: float
    """Of the medians of one round, to the first model; median over the rounds."""
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Opened:
    model: str
    kind: str
    input: str
    run: Run


def measure(
    models: Sequence[tuple[str, Path]], *, threads: int = 1, seconds: float = 5.0, input_size: Size | None = None
) -> list[Latency]:
    """Names and paths of .onnx files -> the latency of each, on the CPU.

    Args:
        threads: of each engine.
        seconds: for each model, over all rounds.
        input_size: of a file without a manifest that takes any size.

    Raises:
        InputError: no model, or an input whose size is not known.
        ModelError: a file that cannot be loaded.
    """
    if not models:
        raise InputError("There is no model to measure; name one or more.")
    opened = [_open(name, path, threads, input_size) for name, path in models]
    for model in opened:
        model.run()  # warm-up: memory is allocated
    rounds = [[_times(model.run, seconds / ROUNDS) for model in opened] for _ in range(ROUNDS)]
    first = np.array([np.median(times[0]) for times in rounds])
    found: list[Latency] = []
    for index, model in enumerate(opened):
        every = np.concatenate([times[index] for times in rounds])
        medians = np.array([np.median(times[index]) for times in rounds])
        low, high = np.percentile(every, (10, 90)).tolist()
        ratio = float(np.median(medians / first))
        found.append(
            Latency(model.model, model.kind, model.input, float(np.median(every)), low, high, ratio, len(every))
        )
    return found


def _times(run: Run, seconds: float) -> NDArray[np.float64]:
    """Milliseconds of each run within so many seconds, at least two, after one that is not counted."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - began))
    return np.array(times)


def _open(name: str, path: Path, threads: int, input_size: Size | None) -> _Opened:
    plain = open_plain(path, threads)
    if KEY not in plain.metadata:
        inputs = {tensor: _noise(dtype, _shape(path, shape, input_size)) for tensor, dtype, shape in plain.inputs}
        shapes = ", ".join("x".join(map(str, array.shape)) for array in inputs.values())
        return _Opened(name, "", shapes, lambda: plain.run(inputs))
    session = Session.open(path, "cpu", threads)
    pixels = _noise("uint8", _input_shape(session.manifest))
    return _Opened(name, session.manifest.kind, "x".join(map(str, pixels.shape)), lambda: session.run(pixels))


def _input_shape(manifest: Manifest) -> tuple[int, ...]:
    """One crop, or an image of `IMAGE_SIZE` as the model takes it."""
    if isinstance(manifest, PoseManifest):
        return (1, *manifest.input_size.shape, 3)
    assert isinstance(manifest, ImageManifest)
    return (1, *Letterbox.of(IMAGE_SIZE, manifest.long_side, manifest.letterbox).size.shape, 3)


def _shape(path: Path, declared: Sequence[int | str | None], input_size: Size | None) -> tuple[int, ...]:
    """Declared shape -> numbers: 1 for an open first side; the input size for two open sides."""
    sides = [1 if position == 0 and not isinstance(side, int) else side for position, side in enumerate(declared)]
    unknown = [position for position, side in enumerate(sides) if not isinstance(side, int)]
    if len(unknown) == 2 and input_size is not None:
        for position, side in zip(unknown, input_size.shape, strict=True):
            sides[position] = side
    elif unknown:
        raise InputError(
            f"{path}: takes inputs of any size ({list(declared)}); give one, such as --input-size 256x192."
        )
    return tuple(int(side) for side in sides if isinstance(side, int))


def _noise(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if np.issubdtype(np.dtype(dtype), np.integer):
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
