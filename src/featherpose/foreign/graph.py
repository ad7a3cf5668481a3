"""Nodes around another project's graph, and the written graph: uint8 pixels in, the outputs of a kind out.

Only operators whose form is the same from opset 11 to 21, except where `Nodes` chooses by the opset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from featherpose.errors import ModelError
from featherpose.foreign.original import PREFIX, Original, prefixed
from featherpose.kinds import POSE, Kind, Tensor
from featherpose.size import Size

IR_VERSION = 8
"""At least: initializers of older files are inputs, too."""
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


class Nodes:
    """Collects nodes and constants; each method returns the name of the value that its node gives."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """A constant of the graph, under a name that appears once."""
        if name in self.constants:
            raise ValueError(f"the constant {name} exists already")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant, such as a shape; equal ones are shared."""
        name = f"integers_{'_'.join(map(str, values))}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One node with one output."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def add_several(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """One node with several outputs."""
        self.nodes.append(helper.make_node(operator, list(inputs), list(outputs), **attributes))

    def cast(self, value: str, dtype: np.dtype[Any] | type[np.generic], output: str | None = None) -> str:
        """The value in another type."""
        return self.add("Cast", value, output=output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def kept_half(self, value: str, output: str | None = None) -> str:
        """A float16 value, as it is.

        onnxruntime computes half precision in float32 on CPUs and leaves out the rounding between two casts; the
        original is rounded at its ends. Between the casts a node that moves float16 values keeps the rounding.
        """
        return self.add("Concat", value, output=output, axis=0)

    def reshape(self, value: str, *shape: int, output: str | None = None, first: bool = False) -> str:
        """The value in another shape; one side may be -1, 0 keeps a side. `first`: before all other nodes."""
        name = self.add("Reshape", value, self.integers(*shape), output=output)
        if first:
            self.nodes.insert(0, self.nodes.pop())
        return name

    def rename(self, names: Mapping[str, str]) -> None:
        """Other names for some values."""
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]

    def columns(self, value: str, start: int, stop: int, axis: int) -> str:
        """The part of a value from `start` to before `stop` along an axis."""
        return self.add("Slice", value, self.integers(start), self.integers(stop), self.integers(axis))

    def maximum(self, value: str, axis: int) -> str:
        """The largest value along an axis, which is kept with length 1."""
        if self.opset < 18:
            return self.add("ReduceMax", value, axes=[axis], keepdims=1)
        return self.add("ReduceMax", value, self.integers(axis), keepdims=1)

    def rows(self, flags: str) -> str:
        """Booleans (P,) -> indices (M,) of those that are true."""
        return self.reshape(self.add("NonZero", flags), -1)


Build = Callable[[Nodes, str], None]
"""Adds nodes from the input of the kind, whose name it is given, to its outputs."""


def wrap_image(original: Original, kind: Kind, side: int, sizes: Mapping[str, int], build: Build) -> onnx.ModelProto:
    """Original and the nodes around it -> a graph of a kind that takes an image of `side` x `side` px."""
    given = helper.make_tensor_value_info(kind.input.name, TensorProto.UINT8, [1, side, side, 3])
    outputs = [_declared(output, sizes) for output in kind.outputs]
    nodes = Nodes(original.opset)
    build(nodes, kind.input.name)
    return _model(original, _body(original, nodes, [given], outputs))


def wrap_crops(original: Original, size: Size, sizes: Mapping[str, int], build: Build) -> onnx.ModelProto:
    """Original and the nodes around it -> a graph of kind pose. `sizes`: K, and h and w where it gives heatmaps.

    A graph for one crop at a time, declared or not, becomes the body of a Scan node, which runs it once for each crop.
    """
    wanted = [output for output in POSE.outputs if not output.optional or "h" in sizes]
    outputs = [_declared(output, sizes) for output in wanted]
    crops = helper.make_tensor_value_info(POSE.input.name, TensorProto.UINT8, ["N", *size.shape, 3])
    nodes = Nodes(original.opset)
    if _takes_batches(original, size):
        build(nodes, POSE.input.name)
        return _model(original, _body(original, nodes, [crops], outputs))
    build(nodes, POSE.input.name)
    # A name of the body must not be one of the graph around it.
    nodes.rename({name: f"body/{name}" for name in (POSE.input.name, *POSE.output_names)})
    crop = helper.make_tensor_value_info("crop", TensorProto.UINT8, [*size.shape, 3])
    nodes.reshape(crop.name, 1, *size.shape, 3, output=f"body/{POSE.input.name}", first=True)
    inner = [_declared(output, sizes, f"crop/{output.name}", batch=False) for output in wanted]
    for output, value in zip(wanted, inner, strict=True):
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        nodes.reshape(f"body/{output.name}", *sides, output=value.name)
    names = [output.name for output in wanted]
    body = _body(original, nodes, [crop], inner)
    scan = helper.make_node("Scan", [POSE.input.name], names, body=body, num_scan_inputs=1)
    return _model(original, helper.make_graph([scan], "featherpose", [crops], outputs))


def _takes_batches(original: Original, size: Size) -> bool:
    """Whether the file gives two results for two crops; some declare an open batch size and have 1 inside."""
    given = original.inputs[0]
    if isinstance(given.shape[0], int):
        return False
    sides = (3, *size.shape) if given.shape[1] == 3 else (*size.shape, 3)
    try:
        outputs = original.run({given.name: np.zeros((2, *sides), np.float32)})
    except ModelError:
        return False
    return all(len(value) == 2 for value in outputs.values())


def original_input(nodes: Nodes, original: Original, index: int, value: str) -> None:
    """Give a value to an input of the original graph, in the type that it takes."""
    given = original.inputs[index]
    name = PREFIX + given.name
    if given.dtype == np.float16:
        nodes.kept_half(nodes.cast(value, given.dtype), output=name)
    else:
        nodes.cast(value, given.dtype, output=name)


def original_output(nodes: Nodes, original: Original, name: str, dtype: type[np.generic] = np.float32) -> str:
    """Name of an output of the original graph -> the value, float32 unless another type is wanted."""
    (found,) = [output for output in original.outputs if output.name == name]
    value = PREFIX + name
    if found.dtype == np.float16:
        value = nodes.kept_half(value)
    return nodes.cast(value, dtype)


def _declared(output: Tensor, sizes: Mapping[str, int], name: str = "", batch: bool = True) -> onnx.ValueInfoProto:
    shape = output.shape_of(sizes)
    return helper.make_tensor_value_info(name or output.name, _TYPES[output.dtype], shape if batch else shape[1:])


def _body(
    original: Original,
    nodes: Nodes,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.GraphProto:
    """The nodes and the original graph between them, in an order in which each value exists before it is used."""
    inner = prefixed(original.model.graph)
    given = {PREFIX + value.name for value in original.inputs}
    ends = [index for index, node in enumerate(nodes.nodes) if given & set(node.output)]
    before = nodes.nodes[: max(ends) + 1]
    after = nodes.nodes[max(ends) + 1 :]
    constants = [numpy_helper.from_array(value, name) for name, value in nodes.constants.items()]
    graph = helper.make_graph([*before, *inner.node, *after], "featherpose", inputs, outputs)
    graph.initializer.extend([*inner.initializer, *constants])
    graph.sparse_initializer.extend(inner.sparse_initializer)
    return graph


def _model(original: Original, graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=original.model.opset_import, functions=original.model.functions)
    model.ir_version = max(original.model.ir_version, IR_VERSION)
    model.producer_name = "featherpose"
    return model
