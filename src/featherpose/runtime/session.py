"""Loads and runs an exported model of any kind. The only module that imports onnxruntime."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as engine_errors  # pyright: ignore[reportAttributeAccessIssue]

from featherpose import files
from featherpose.errors import DeviceError, InputError, ModelError
from featherpose.kinds import KINDS, SIDE_MULTIPLE, Kind
from featherpose.machine import DEVICES, available_threads
from featherpose.manifest import ImageManifest, Manifest, read_manifest

log = logging.getLogger("featherpose")

BATCH_SIZES = {"cpu": (4, 1), "cuda": (32, 4, 1)}
"""Batches are split into these sizes. With a dynamic batch size the engine loses its fast memory layout, so there is
one engine per size, opened on first use (a few tenths of a second). Split, not padded: the latency per crop is about
the same at batch size 1, 2, 4 or 8 on one core (27.2, 25.8, 26.7, 29.8 ms, CBAM-LiteHRNet-18, plain export), so a
padded crop costs as much as a real one and an additional run almost nothing."""

MAX_ENGINES = 8
"""Engines that a process keeps open: those used last. One is needed for each batch size, or for each size of image. For
a detector on 390 photographs in 10 sizes (long side 320, one core), 4, 8 and 16 engines are opened 84, 14 and 11 times;
the photographs take 10.4, 7.4 and 6.9 s, the process 359, 391 and 400 MB. With a long side of 640 an engine has up to
60 MB: 690, 930 and 1300 MB."""

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
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
        self._engines: dict[tuple[int, tuple[int, ...]], Any] = {}
        """(process, sizes) -> engine for these sizes of the input (`Kind.per_engine`)."""
        self._last_used: dict[tuple[int, tuple[int, ...]], float] = {}
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return Session.open, (self.path, self.device, self.threads)

    @property
    def kind(self) -> Kind:
        """The kind of the model."""
        return KINDS[self.manifest.kind]

    @property
    def batch_size(self) -> int:
        """Number of inputs in the session's largest runs."""
        return BATCH_SIZES[self.device][0] if "N" in self.kind.per_engine else 1

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
            session._engine(session._first_sizes())
        except DeviceError:
            if device != "auto":
                raise
            session.device = "cpu"
            session._engine(session._first_sizes())
        if device == "auto":
            _log_once(f"running on {session.device}, {session.threads} threads")
        return session

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Input uint8 RGB -> outputs by name, float32; `kinds` has the shapes.

        Crops (N, H, W, 3) of the manifest's size for a model of kind "pose"; one image (1, H, W, 3), both sides
        multiples of 32, for the others. InputError for anything else.
        """
        self._check_input(batch)
        if "N" not in self.kind.per_engine:
            return self._run(self._engine(batch.shape[1:3]), batch)
        rows = [self._run(self._engine((stop - start,)), batch[start:stop]) for start, stop in self._splits(len(batch))]
        if not rows:
            return self._empty()
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _check_input(self, batch: NDArray[np.uint8]) -> None:
        shape = self.kind.input.shape_of(self.manifest.sizes)
        wanted = f"wanted uint8 ({', '.join(map(str, shape))})"
        fits = batch.dtype == np.uint8 and batch.ndim == len(shape)
        fits = fits and all(isinstance(a, str) or a == b for a, b in zip(shape, batch.shape, strict=True))
        if isinstance(self.manifest, ImageManifest):
            wanted += f", H and W multiples of {SIDE_MULTIPLE}"
            fits = fits and all(side > 0 and side % SIDE_MULTIPLE == 0 for side in batch.shape[1:3])
        if not fits:
            raise InputError(f"The input {self.kind.input.name} is {batch.dtype} {batch.shape}, {wanted}.")

    def _run(self, engine: Any, batch: NDArray[np.uint8]) -> Outputs:
        names = [node.name for node in engine.get_outputs()]
        try:
            arrays = engine.run(names, {self.kind.input.name: np.ascontiguousarray(batch)})
        except _ENGINE_ERRORS as error:
            raise ModelError(f"{self.path}: inference failed ({_first_line(error)}). Export the model again.") from None
        return dict(zip(names, arrays, strict=True))

    def _splits(self, number: int) -> list[tuple[int, int]]:
        """Batch of `number` crops -> start and end of each run, largest sizes first."""
        cuts: list[tuple[int, int]] = []
        start = 0
        for size in BATCH_SIZES[self.device]:
            while number - start >= size:
                cuts.append((start, start + size))
                start += size
        return cuts

    def _first_sizes(self) -> tuple[int, ...]:
        """Sizes of the engine that is opened first, to load the model and check its graph: those most likely to be
        used, one crop or a landscape photograph of 4:3."""
        if not isinstance(self.manifest, ImageManifest):
            return (1,)
        sizes = self.manifest.sizes
        if "H" in sizes:
            return sizes["H"], sizes["W"]
        long_side = self.manifest.long_side
        return -(-long_side * 3 // (4 * SIDE_MULTIPLE)) * SIDE_MULTIPLE, long_side

    def _engine(self, sizes: tuple[int, ...]) -> Any:
        key = os.getpid(), sizes
        self._last_used[key] = time.monotonic()
        engine = self._engines.get(key)
        if engine is None:
            engine = _open(self.path, self.manifest, self.device, self.threads_here, sizes)
            self._engines[key] = engine
            self._close_unused()
        return engine

    def _close_unused(self) -> None:
        """Close this process's engines but those used last. Others are kept: closing one of a process that was forked
        would wait for threads that this process does not have."""
        own = [key for key in list(self._engines) if key[0] == os.getpid()]
        own.sort(key=lambda key: self._last_used.get(key, 0.0))
        for key in own[:-MAX_ENGINES]:
            self._engines.pop(key, None)
            self._last_used.pop(key, None)

    def _empty(self) -> Outputs:
        """Outputs for no crops."""
        names = [node.name for node in self._engine((1,)).get_outputs()]
        sizes = {**self.manifest.sizes, "N": 0}
        declared = {output.name: output for output in self.manifest.outputs}
        return {name: np.zeros([int(side) for side in declared[name].shape_of(sizes)], np.float32) for name in names}


class PlainModel:
    """Any .onnx file on the CPU, with or without a manifest."""

    def __init__(self, path: Path, engine: Any) -> None:
        self._path = path
        self._engine = engine

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata by key."""
        return dict(self._engine.get_modelmeta().custom_metadata_map)

    @property
    def inputs(self) -> list[tuple[str, str, list[int | str | None]]]:
        """Name, dtype as numpy names it, and shape of each input; a side of no fixed length is a name or None."""
        nodes: list[Any] = self._engine.get_inputs()
        return [(node.name, _NUMPY_TYPES.get(node.type, str(node.type)), node.shape) for node in nodes]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs by name -> outputs by name; ModelError for inputs that the file does not take."""
        names = [node.name for node in self._engine.get_outputs()]
        try:
            arrays = self._engine.run(names, dict(inputs))
        except (*_ENGINE_ERRORS, ValueError) as error:
            raise ModelError(f"{self._path}: inference failed ({_first_line(error)}).") from None
        return dict(zip(names, arrays, strict=True))


_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def run_plain(path: str | os.PathLike[str], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Path of any .onnx file and its inputs by name -> its outputs by name, as `open_plain` and `PlainModel.run`."""
    path = Path(path)
    return _last_plain(path, path.stat().st_mtime_ns if path.is_file() else 0).run(inputs)


@functools.lru_cache(maxsize=1)
def _last_plain(path: Path, modified_ns: int) -> PlainModel:
    """The last file stays open, because `run_plain` is called for many inputs."""
    return open_plain(path)


def open_plain(path: str | os.PathLike[str], threads: int | None = None) -> PlainModel:
    """Path of any .onnx file -> PlainModel; ModelError for a file that onnxruntime cannot load."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; the engine's log would repeat them
    try:
        return PlainModel(path, onnxruntime.InferenceSession(str(path), options, providers=[_PROVIDERS["cpu"]]))
    except _ENGINE_ERRORS as error:
        raise ModelError(f"{path}: onnxruntime cannot load it ({_first_line(error)}).") from None


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


def _open(path: Path, manifest: Manifest, device: str, threads: int, sizes: tuple[int, ...]) -> Any:
    """Load the model into an engine for these sizes of its input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; the engine's log would repeat them
    fixed = dict(zip(KINDS[manifest.kind].per_engine, sizes, strict=True))
    for letter, size in fixed.items():
        options.add_free_dimension_override_by_name(letter, size)
    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries installed by pip
    try:
        with files.utf8_path(path) as readable:
            engine: Any = onnxruntime.InferenceSession(str(readable), options, providers=[_PROVIDERS[device]])
    except _ENGINE_ERRORS as error:
        if device == "cuda" and "cuda" in str(error).lower():
            raise DeviceError(
                f"cuda was requested but does not work here ({_first_line(error)}). {_CUDA_HINT}"
            ) from None
        hint = "Copy it again, or export it again with `featherpose export`"
        raise ModelError(f"{path}: onnxruntime cannot load it ({_first_line(error)}). {hint}.") from None
    if engine.get_providers()[0] != _PROVIDERS[device]:  # onnxruntime itself falls back silently
        raise DeviceError(f"cuda was requested, but the CUDA libraries could not be loaded. {_CUDA_HINT}")
    _check_graph(path, manifest, engine, fixed)
    return engine


def _check_graph(path: Path, manifest: Manifest, engine: Any, fixed: dict[str, int]) -> None:
    """ModelError unless the graph has the input and the outputs that its kind and its manifest declare.

    `fixed`: the letters of the input that this engine is opened for.
    """
    kind = KINDS[manifest.kind]
    nodes = [*engine.get_inputs(), *engine.get_outputs()]
    found: dict[str, str] = {node.name: str(_DTYPES.get(node.type, node.type)) for node in nodes}
    declared = {tensor.name: tensor for tensor in (kind.input, *manifest.outputs)}
    required = {name: tensor.dtype for name, tensor in declared.items() if name in found or not tensor.optional}
    if found != required or [node.name for node in engine.get_inputs()] != [kind.input.name]:
        has = ", ".join(f"{name} ({dtype})" for name, dtype in found.items())
        wanted = f"{kind.input.name} (uint8) -> {', '.join(output.name for output in manifest.outputs)} (float32)"
        raise ModelError(f"{path}: its graph has {has}; a model of kind {kind.name} has {wanted}.")
    for node in nodes:
        shape = declared[node.name].shape_of(manifest.sizes | fixed)
        if not _fits(list(node.shape), shape, node.name == kind.input.name):
            raise ModelError(
                f"{path}: {node.name} is {node.shape} in the graph, wanted {shape} by its manifest. Export it again."
            )


def _fits(found: list[int | str | None], declared: list[int | str], is_input: bool) -> bool:
    """Whether a shape in the graph is the declared one.

    The engine does not know every side of an output; it gives a name or None for the others. Sides of the input must
    be fixed.
    """
    if len(found) != len(declared):
        return False
    sides = [(a, b) for a, b in zip(found, declared, strict=True) if isinstance(b, int)]
    return all(a == b or not (is_input or isinstance(a, int)) for a, b in sides)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


@functools.cache
def _log_once(line: str) -> None:
    log.info(line)
