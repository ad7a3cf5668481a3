"""A file of another project: read, checked and described, before any family looks at it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, version_converter

from featherpose.errors import InputError, ModelError
from featherpose.runtime.session import run_plain

OLDEST = 11
"""Opset from which the nodes that are added exist; older graphs are converted."""
NEWEST = 21
CONVERTED = 17
"""Opset to which graphs older than `OLDEST` are converted."""
PREFIX = "original/"
"""Of every name of the original graph in the written one, so that no name is taken twice."""
LARGEST = (1 << 31) - 1  # bytes of a protobuf message
_REMEDY = "Check that it is the .onnx file, and copy it again"


@dataclass(frozen=True)
class Value:
    """An input or an output of a graph; a side of its shape that the file leaves open is a name, or "?"."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, eq=False)
class Original:
    """The file at `path` and its graph, with the weights inside and at an opset from 11 to 21."""

    path: Path
    model: onnx.ModelProto
    digest: str
    """SHA-256 of the file."""

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return _opset(self.model)

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """What the graph takes, the image first; initializers, which old files list as inputs, left out."""
        constants = {constant.name for constant in self.model.graph.initializer}
        values = [_value(given, self.path) for given in self.model.graph.input if given.name not in constants]
        # PaddleDetection lists the size of the image before the image.
        return tuple(sorted(values, key=lambda value: len(value.shape), reverse=True))

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        """What the graph gives, as the file declares it."""
        return tuple(_value(output, self.path) for output in self.model.graph.output)

    @property
    def metadata(self) -> dict[str, str]:
        """Texts that the exporter left in the file."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def layout(self) -> str:
        """Inputs and outputs in one line."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"

    def run_on_black(self, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
        """Shape of the only input -> outputs by name, to see the shapes that the file leaves open."""
        return self.run({self.inputs[0].name: np.zeros(shape, np.float32)})

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs by name, cast to the types of the file -> outputs by name."""
        types = {value.name: value.dtype for value in self.inputs}
        return run_plain(self.path, {name: array.astype(types[name], copy=False) for name, array in inputs.items()})


def read_original(path: Path) -> Original:
    """Path of an .onnx file -> Original; ModelError for a file that is none or that cannot be wrapped."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from None
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX file. {_REMEDY}.") from None
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: not an ONNX file, or one without a graph. {_REMEDY}.")
    _load_weights(model, path)
    opset = _opset(model)
    if opset > NEWEST:
        raise ModelError(f"{path}: opset {opset}, wanted {NEWEST} or older. Export it with opset {CONVERTED}.")
    return Original(path, model if opset >= OLDEST else _converted(model, path, opset), digest)


def prefixed(graph: onnx.GraphProto) -> onnx.GraphProto:
    """Graph -> the same graph with `PREFIX` before every name, those of the graphs inside its nodes included."""
    renamed = onnx.GraphProto()
    renamed.CopyFrom(graph)
    # Shapes as the exporter saw them: some are of another batch size, and none is needed.
    del renamed.value_info[:]
    del renamed.quantization_annotation[:]
    for inner in _graphs(renamed):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = PREFIX + value.name
        for sparse in inner.sparse_initializer:
            sparse.values.name = PREFIX + sparse.values.name
        for node in inner.node:
            node.name = PREFIX + node.name if node.name else ""
            # An empty name is an optional input that is left out.
            node.input[:] = [PREFIX + name if name else "" for name in node.input]
            node.output[:] = [PREFIX + name if name else "" for name in node.output]
    return renamed


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those of its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g,) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return versions[0] if versions else 1


def _load_weights(model: onnx.ModelProto, path: Path) -> None:
    """Read the weights that lie in other files; the written file has them inside."""
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{path}: its weights lie in another file, which cannot be read ({reason}). Copy it beside the .onnx file."
        ) from None
    if model.ByteSize() > LARGEST:
        raise ModelError(f"{path}: {model.ByteSize() / 1e9:.1f} GB with its weights, at most 2.1 fit into one file.")


def _converted(model: onnx.ModelProto, path: Path, opset: int) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, CONVERTED)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{path}: opset {opset} cannot be converted to {CONVERTED} ({reason}). Export it with opset {CONVERTED}."
        ) from None


def _value(value: onnx.ValueInfoProto, path: Path) -> Value:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"{path}: {value.name} is not a tensor but a sequence or a map; such files do not fit.")
    tensor = value.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in tensor.shape.dim]
    return Value(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(sides))
