"""Loads and runs an exported model. The only module that imports onnxruntime."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as engine_errors  # pyright: ignore[reportAttributeAccessIssue]

from featherpose.errors import DeviceError, InputError, ModelError
from featherpose.machine import DEVICES, available_threads
from featherpose.manifest import Manifest, read_manifest

log = logging.getLogger("featherpose")

OUTPUTS = ("keypoints", "scores", "heatmaps")

BATCH_SIZES = {"cpu": (4, 1), "cuda": (32, 4, 1)}
"""Batches are split into these sizes. With a dynamic batch size the engine loses its fast memory layout, so there is
one engine per size, opened on first use (a few tenths of a second). Split, not padded: the latency per crop is about
the same at batch size 1, 2, 4 or 8 on one core (27.2, 25.8, 26.7, 29.8 ms, CBAM-LiteHRNet-18, plain export), so a
padded crop costs as much as a real one and an additional run almost nothing."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA_HINT = "Type: pip install 'onnxruntime-gpu[cuda,cudnn]' (or choose --device cpu)."
_ENGINE_ERRORS: tuple[type[Exception], ...] = (
    engine_errors.EPFail,
    engine_errors.Fail,
    engine_errors.InvalidArgument,
    engine_errors.InvalidGraph,
    engine_errors.InvalidProtobuf,
    engine_errors.NoSuchFile,
    engine_errors.NotImplemented,
    engine_errors.RuntimeException,
)

Outputs = dict[str, NDArray[np.float32]]


class Session:
    """A model file with its manifest, on a device. Create it with `Session.open`.

    It may be used by several threads. A forked child opens its own engines, with one thread, because the threads of an
    engine do not survive a fork. Pickled, as for `spawn`, it is the file, the device and the number of threads.
    """

    def __init__(self, path: Path, manifest: Manifest, device: str, threads: int) -> None:
        self.path = path
        self.manifest = manifest
        self.device = device
        self.threads = threads
        self._engines: dict[tuple[int, int], Any] = {}
        """(process, batch size) -> engine; one of another process is kept, since closing it would wait for threads."""
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return Session.open, (self.path, self.device, self.threads)

    @property
    def threads_here(self) -> int:
        """Number of threads of this process's engines: 1 in a forked child."""
        return self.threads if os.getpid() == self._process else 1

    @classmethod
    def open(cls, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> Session:
        """Path of an exported .onnx file -> a session whose model has been loaded.

        `device` is "cpu", "cuda" or "auto": cuda if it works, else cpu; the choice is logged once. `threads` is the
        number of CPU threads (default: the cores available to this process).
        """
        manifest = read_manifest(path)
        session = cls(Path(path), manifest, _choose_device(device), threads or available_threads())
        try:
            session._engine(1)
        except DeviceError:
            if device != "auto":
                raise
            session.device = "cpu"
            session._engine(1)
        if device == "auto":
            _log_once(f"running on {session.device}, {session.threads} threads")
        return session

    def run(self, crops: NDArray[np.uint8]) -> Outputs:
        """Crops uint8 (N, H, W, 3) RGB -> outputs by name, float32.

        `keypoints` (N, K, 2) in crop pixels, `scores` (N, K), `heatmaps` (N, K, h, w).
        """
        height, width = self.manifest.input_size.shape
        if crops.dtype != np.uint8 or crops.shape[1:] != (height, width, 3):
            raise InputError(f"Crops are {crops.dtype} {crops.shape}, wanted uint8 (N, {height}, {width}, 3).")
        rows = [self._run(self._engine(stop - start), crops[start:stop]) for start, stop in self._splits(len(crops))]
        if not rows:
            return self._empty()
        return {name: np.concatenate([row[name] for row in rows]) for name in OUTPUTS}

    def _run(self, engine: Any, crops: NDArray[np.uint8]) -> Outputs:
        try:
            return dict(zip(OUTPUTS, engine.run(OUTPUTS, {"crops": np.ascontiguousarray(crops)}), strict=True))
        except _ENGINE_ERRORS as error:
            raise ModelError(f"{self.path}: inference failed ({_first_line(error)}). Export the model again.") from None

    def _splits(self, number: int) -> list[tuple[int, int]]:
        """Batch of `number` crops -> start and end of each run, largest sizes first."""
        cuts: list[tuple[int, int]] = []
        start = 0
        for size in BATCH_SIZES[self.device]:
            while number - start >= size:
                cuts.append((start, start + size))
                start += size
        return cuts

    def _engine(self, batch: int) -> Any:
        key = os.getpid(), batch
        if key not in self._engines:
            self._engines[key] = _open(self.path, self.manifest, self.device, self.threads_here, batch)
        return self._engines[key]

    def _empty(self) -> Outputs:
        num_keypoints = self.manifest.skeleton.num_keypoints
        cells = self.manifest.make_codec().heatmap_size.shape
        shapes = ((0, num_keypoints, 2), (0, num_keypoints), (0, num_keypoints, *cells))
        return {name: np.zeros(shape, np.float32) for name, shape in zip(OUTPUTS, shapes, strict=True)}


def _choose_device(device: str) -> str:
    if device not in DEVICES:
        raise DeviceError(f"Device {device!r} is unknown, wanted one of {', '.join(DEVICES)}.")
    has_cuda = _PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise DeviceError(
            "cuda was requested, but this onnxruntime is built for the CPU only; "
            "type: pip uninstall onnxruntime && pip install onnxruntime-gpu (or choose --device cpu)"
        )
    return ("cuda" if has_cuda else "cpu") if device == "auto" else device


def _open(path: Path, manifest: Manifest, device: str, threads: int, batch: int) -> Any:
    """Load the model into an engine for one batch size."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; the engine's log would repeat them
    options.add_free_dimension_override_by_name("N", batch)
    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries installed by pip
    try:
        engine: Any = onnxruntime.InferenceSession(str(path), options, providers=[_PROVIDERS[device]])
    except _ENGINE_ERRORS as error:
        if device == "cuda" and "cuda" in str(error).lower():
            raise DeviceError(
                f"cuda was requested but does not work here ({_first_line(error)}). {_CUDA_HINT}"
            ) from None
        hint = "Copy it again, or export it again with `featherpose export`"
        raise ModelError(f"{path}: onnxruntime cannot load it ({_first_line(error)}). {hint}.") from None
    if engine.get_providers()[0] != _PROVIDERS[device]:  # onnxruntime itself falls back silently
        raise DeviceError(f"cuda was requested, but the CUDA libraries could not be loaded. {_CUDA_HINT}")
    _check_graph(path, manifest, engine, batch)
    return engine


def _check_graph(path: Path, manifest: Manifest, engine: Any, batch: int) -> None:
    """ModelError unless the graph has the inputs and outputs that the manifest declares."""
    (height, width), num_keypoints = manifest.input_size.shape, manifest.skeleton.num_keypoints
    wanted = {
        "crops": [batch, height, width, 3],
        "keypoints": [batch, num_keypoints, 2],
        "scores": [batch, num_keypoints],
    }
    nodes = [*engine.get_inputs(), *engine.get_outputs()]
    found = {node.name: list(node.shape) for node in nodes}
    if {"crops", *OUTPUTS} - found.keys() or engine.get_inputs()[0].type != "tensor(uint8)":
        raise ModelError(f"{path}: its graph has {', '.join(found)}, wanted crops (uint8) -> {', '.join(OUTPUTS)}.")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(f"{path}: {name} is {found[name]} in the graph, {shape} in the manifest. Export it again.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


@functools.cache
def _log_once(line: str) -> None:
    log.info(line)
