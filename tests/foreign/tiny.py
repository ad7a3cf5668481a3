"""Files of a few kilobytes with the inputs and outputs of other projects' models.

An output is base + gain * (features of the image) @ (random weights), so it depends on the image; with gain 0 a file
returns the base, recorded numbers for example. Names, shapes, types and dynamic axes are those of real files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GRID = 4  # the image is averaged to GRID x GRID cells
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32}
TYPES |= {"int64": TensorProto.INT64, "uint8": TensorProto.UINT8}


@dataclass(frozen=True)
class Output:
    """An output: its values for a gray image, how much they change with the image, and the shape that is declared."""

    name: str
    base: np.ndarray
    gain: float | np.ndarray = 0.0
    declared: tuple[Any, ...] | None = None


def tiny_file(
    path: Path,
    outputs: list[Output],
    *,
    name: str = "images",
    shape: tuple[Any, ...] = (1, 3, 64, 64),
    dtype: str = "float32",
    scale: float = 1.0,
    opset: int = 17,
    ir_version: int = 8,
    weights: str = "float32",
    more_inputs: dict[str, tuple[str, tuple[Any, ...]]] | None = None,
    metadata: dict[str, str] | None = None,
    change: Callable[[onnx.ModelProto], None] | None = None,
    external: bool = False,
) -> Path:
    """Write a file. `scale`: of the input values; `shape`: (batch, 3, H, W), (3, H, W) or (batch, H, W, 3)."""
    rng = np.random.default_rng(3)
    planar = shape[-3] == 3
    nodes = [helper.make_node("Cast", [name], ["given"], to=TYPES[weights])]
    constants: dict[str, np.ndarray] = {"scale": np.array(scale, weights)}
    nodes.append(helper.make_node("Mul", ["given", "scale"], ["scaled"]))
    planes = "scaled"
    if not planar:
        nodes.append(helper.make_node("Transpose", [planes], ["planes"], perm=[0, 3, 1, 2]))
        planes = "planes"
    if len(shape) == 3:
        constants["batch_axis"] = np.array([1, 3, shape[1], shape[2]], np.int64)
        nodes.append(helper.make_node("Reshape", [planes, "batch_axis"], ["batch"]))
        planes = "batch"
    sides = shape[-2:] if planar else shape[1:3]
    if all(isinstance(side, int) for side in sides):
        kernel = [side // GRID for side in sides]
        nodes.append(helper.make_node("AveragePool", [planes], ["cells"], kernel_shape=kernel, strides=kernel))
    else:
        nodes.append(helper.make_node("GlobalAveragePool", [planes], ["cells"]))
        kernel = []
    features = 3 * GRID * GRID if kernel else 3
    constants["flat"] = np.array([-1, features], np.int64)
    nodes.append(helper.make_node("Reshape", ["cells", "flat"], ["features"]))
    for output in outputs:
        _append(nodes, constants, output, features, rng, weights)
    given = {name: (dtype, shape), **(more_inputs or {})}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(n, TYPES[of], sides) for n, (of, sides) in given.items()],
            [_declared(output, weights) for output in outputs],
            [numpy_helper.from_array(value, n) for n, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )
    if ir_version < 4:  # initializers are inputs, too
        for constant in model.graph.initializer:
            model.graph.input.append(
                helper.make_tensor_value_info(constant.name, constant.data_type, list(constant.dims))
            )
    helper.set_model_props(model, metadata or {})
    if change:
        change(model)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        onnx.save(model, str(path))
    return path


def _append(
    nodes: list[Any], constants: dict[str, np.ndarray], output: Output, features: int, rng: Any, weights: str
) -> None:
    base = output.base
    name = output.name
    gain = np.broadcast_to(np.asarray(output.gain, np.float64), base.shape).reshape(-1)
    size = base.size if gain.any() else 1
    constants[f"{name}/weights"] = (rng.normal(size=(features, size)) * gain[:size] / np.sqrt(features)).astype(weights)
    constants[f"{name}/base"] = base.reshape(1, -1).astype(weights)
    constants[f"{name}/shape"] = np.array([-1, *base.shape[1:]], np.int64)
    nodes.append(helper.make_node("MatMul", ["features", f"{name}/weights"], [f"{name}/changed"]))
    nodes.append(helper.make_node("Add", [f"{name}/changed", f"{name}/base"], [f"{name}/row"]))
    shaped = name if base.dtype.kind == "f" else f"{name}/shaped"
    nodes.append(helper.make_node("Reshape", [f"{name}/row", f"{name}/shape"], [shaped]))
    if shaped != name:
        nodes.append(helper.make_node("Cast", [shaped], [name], to=TYPES[str(base.dtype)]))


def _declared(output: Output, weights: str) -> Any:
    kind = weights if output.base.dtype.kind == "f" else str(output.base.dtype)
    return helper.make_tensor_value_info(output.name, TYPES[kind], output.declared or output.base.shape)


def random_boxes(number: int, side: int, seed: int = 5) -> np.ndarray:
    """(number, 4) left, top, right, bottom in px, inside a square."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side * 0.6, (number, 2))
    return np.concatenate([low, low + rng.uniform(side * 0.1, side * 0.4, (number, 2))], axis=1).astype(np.float32)


def simcc(path: Path, keypoints: int = 17, ratio: int = 2, **changes: Any) -> Path:
    """RTMPose at 64x48: two responses of `ratio` bins for each pixel."""
    rng = np.random.default_rng(8)
    x = rng.uniform(0.1, 0.5, (1, keypoints, 48 * ratio)).astype(np.float32)
    y = rng.uniform(0.1, 0.5, (1, keypoints, 64 * ratio)).astype(np.float32)
    outputs = [
        Output("simcc_x", x, 0.3, ("batch", keypoints, 48 * ratio)),
        Output("simcc_y", y, 0.3, ("batch", keypoints, 64 * ratio)),
    ]
    facts: dict[str, Any] = {"name": "input", "shape": ("batch", 3, 64, 48), "opset": 11}
    return tiny_file(path, outputs, **facts | changes)


def one_inside(model: onnx.ModelProto) -> None:
    """Outputs are of batch size 1 whatever the file declares."""
    for constant in model.graph.initializer:
        if constant.name.endswith("/shape"):
            shape = [1, *numpy_helper.to_array(constant)[1:]]
            constant.CopyFrom(numpy_helper.from_array(np.array(shape, np.int64), constant.name))


def heatmaps(path: Path, **changes: Any) -> Path:
    """PP-TinyPose at 64x48: one image at a time, a second output that must be ignored, opset 11."""
    rng = np.random.default_rng(9)
    down, across = np.indices((16, 12))
    centers = rng.uniform([3, 3], [9, 13], (17, 2))
    square = (across - centers[:, 0, None, None]) ** 2 + (down - centers[:, 1, None, None]) ** 2
    maps = 0.8 * np.exp(-square / 8)[None].astype(np.float32)
    index = maps.reshape(1, 17, -1).argmax(axis=2)
    outputs = [Output("conv2d_441.tmp_1", maps, 0.1), Output("argmax_0.tmp_0", index)]
    facts: dict[str, Any] = {"name": "image", "shape": (1, 3, 64, 48), "opset": 11}
    return tiny_file(path, outputs, **facts | changes)


def movenet(path: Path, **changes: Any) -> Path:
    """MoveNet at 192: int32 pixels, channels last, rows of y, x, score."""
    rows = np.random.default_rng(10).uniform(0.2, 0.8, (1, 1, 17, 3)).astype(np.float32)
    facts: dict[str, Any] = {"name": "input", "shape": (1, 192, 192, 3), "dtype": "int32", "opset": 13}
    facts["scale"] = 1 / 255
    return tiny_file(path, [Output("output_0", rows, 0.3)], **facts | changes)


def yolo_pose(path: Path, *, nms: bool = False, **changes: Any) -> Path:
    """Ultralytics pose at 64: raw columns, or rows after NMS of which the last ones are zero."""
    rng = np.random.default_rng(12)
    number = 300 if nms else 84
    corners = random_boxes(number, 64)
    score = rng.uniform(0.1, 0.9, (number, 1))
    points = rng.uniform(0, 64, (number, 17, 2))
    keypoints = np.concatenate([points, rng.uniform(0.2, 0.8, (number, 17, 1))], axis=2).reshape(number, 51)
    if nms:
        table = np.concatenate([corners, score, np.zeros((number, 1)), keypoints], axis=1)
        table[40:] = 0
        gain = np.where(table == 0, 0, 0.1)[None]
        outputs = [Output("output0", table[None].astype(np.float32), gain)]
    else:
        middle = (corners[:, :2] + corners[:, 2:]) / 2
        table = np.concatenate([middle, corners[:, 2:] - corners[:, :2], score, keypoints], axis=1)
        outputs = [Output("output0", table.T[None].astype(np.float32), 0.1)]
    metadata = {"task": "pose", "kpt_shape": "[17, 3]", "names": "{0: 'person'}", "end2end": "False"}
    return tiny_file(path, outputs, **{"metadata": metadata} | changes)


def rtmo(path: Path, **changes: Any) -> Path:
    """RTMO at 64: rows of boxes and scores, and keypoints."""
    rng = np.random.default_rng(13)
    score = np.linspace(0.9, 0.05, 12)[:, None]
    dets = np.concatenate([random_boxes(12, 64), score], axis=1)[None].astype(np.float32)
    points = rng.uniform(0, 64, (1, 12, 17, 2))
    keypoints = np.concatenate([points, rng.uniform(0.2, 0.8, (1, 12, 17, 1))], axis=3).astype(np.float32)
    gain = np.array([1.0] * 4 + [0.01]) * 0.01
    outputs = [
        Output("dets", dets, gain, ("batch", "n", 5)),
        Output("keypoints", keypoints, [0.01, 0.01, 0.0001], ("batch", "n", 17, 3)),
    ]
    facts: dict[str, Any] = {"name": "input", "shape": ("batch", 3, 64, 64), "opset": 11}
    return tiny_file(path, outputs, **facts | changes)


def rtmdet(path: Path, **changes: Any) -> Path:
    """RTMDet from mmdeploy: any size, labels int64, a last row of zeros with the label of persons."""
    dets = np.concatenate([random_boxes(20, 64), np.linspace(0.9, 0.06, 20)[:, None]], axis=1)
    dets[-1] = 0
    labels = np.arange(20)[None] % 3 // 2
    labels[0, -1] = 0
    gain = np.where(dets == 0, 0, [1.0] * 4 + [0.01])[None]
    outputs = [
        Output("dets", dets[None].astype(np.float32), gain, ("batch", "num_dets", "Reshapedets_dim_2")),
        Output("labels", labels, 0, ("batch", "num_dets")),
    ]
    facts: dict[str, Any] = {"name": "input", "shape": ("batch", 3, "height", "width"), "opset": 11}
    return tiny_file(path, outputs, **facts | changes)


def rtmdet_maps(path: Path, *, joined: bool = False, **changes: Any) -> Path:
    """RTMDet cut before NMS: six maps (1, C, h, w), or three maps (1, h, w, C + 4) with the class first."""
    rng = np.random.default_rng(14)
    cells = (8, 4, 2)
    logits = [rng.normal(-1, 2, (1, 1, n, n)) for n in cells]
    distances = [rng.uniform(-2, 20, (1, 4, n, n)) for n in cells]
    if joined:
        both = [np.concatenate(pair, axis=1).transpose(0, 2, 3, 1) for pair in zip(logits, distances, strict=True)]
        outputs = [Output(str(1211 + 2 * i), part.astype(np.float32), 0.3) for i, part in enumerate(both)]
        return tiny_file(path, outputs, **changes)
    outputs = [Output(f"rtmdet_head.0.{i}", part.astype(np.float32), 0.3) for i, part in enumerate(logits)]
    outputs += [Output(f"rtmdet_head.1.{i}", part.astype(np.float32), 0.3) for i, part in enumerate(distances)]
    return tiny_file(path, outputs, **{"name": "input"} | changes)


def yolox(path: Path, **changes: Any) -> Path:
    """YOLOX at 64: 84 rows of 85 columns, pixels from 0 to 255."""
    rng = np.random.default_rng(15)
    rows = rng.uniform(0, 0.4, (1, 84, 85))
    rows[..., :2] = rng.uniform(-1, 2, (1, 84, 2))
    rows[..., 2:4] = rng.uniform(-0.5, 1.5, (1, 84, 2))
    rows[..., 4] = rng.uniform(0.1, 0.9, (1, 84))
    rows[0, :60, 5] = 0.9
    facts: dict[str, Any] = {"opset": 11, "scale": 1 / 255}
    return tiny_file(path, [Output("output", rows.astype(np.float32), 0.05)], **facts | changes)


def picodet(path: Path, *, anchors_first: bool = False, **changes: Any) -> Path:
    """PicoDet without NMS at 64: boxes in pixels, and scores of one class, classes before anchors or behind them."""
    scores = np.random.default_rng(17).uniform(0.02, 0.9, (1, 1, 85)).astype(np.float32)
    outputs = [
        Output("concat_8.tmp_0", random_boxes(85, 64)[None], 2.0),
        Output("transpose_8.tmp_0", scores.transpose(0, 2, 1) if anchors_first else scores, 0.1),
    ]
    return tiny_file(path, outputs, **{"name": "image", "opset": 11} | changes)


def picodet_nms(path: Path, **changes: Any) -> Path:
    """PicoDet with post-processing at 64: the sizes as inputs; a row of class -1, and a number that must be ignored."""
    rows = np.concatenate([np.zeros((20, 1)), np.linspace(0.9, 0.03, 20)[:, None], random_boxes(20, 64)], axis=1)
    rows[5::3, 0] = 1
    rows[-1, 0] = -1
    rows[:, 4:] += 24  # some beyond the image
    outputs = [
        Output("multiclass_nms3_0.tmp_0", rows.astype(np.float32), [0, 0.05, 1, 1, 1, 1], ("M", 6)),
        Output("multiclass_nms3_0.tmp_2", np.array([85], np.int32)),
    ]
    facts: dict[str, Any] = {"name": "image", "opset": 11, "change": _divide_by_scale_factor}
    facts["more_inputs"] = {"scale_factor": ("float32", (1, 2)), "im_shape": ("float32", (1, 2))}
    return tiny_file(path, outputs, **facts | changes)


def _divide_by_scale_factor(model: onnx.ModelProto) -> None:
    """Boxes clipped to (h, w) of `im_shape` and divided by (y, x) of `scale_factor`, in the file; the image last."""
    graph = model.graph
    (last,) = [node for node in graph.node if "multiclass_nms3_0.tmp_0" in node.output]
    last.output[:] = ["whole"]
    # Class and score remain.
    constants = {"x_y": np.array([1, 0]), "ones": np.ones((1, 2), np.float32), "large": np.full((1, 2), 9, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.append(helper.make_node("Gather", ["im_shape", "x_y"], ["w_h"], axis=1))
    graph.node.append(helper.make_node("Concat", ["large", "w_h", "w_h"], ["limits"], axis=1))
    graph.node.append(helper.make_node("Min", ["whole", "limits"], ["clipped"]))
    graph.node.append(helper.make_node("Gather", ["scale_factor", "x_y"], ["scales"], axis=1))
    graph.node.append(helper.make_node("Concat", ["ones", "scales", "scales"], ["divisors"], axis=1))
    graph.node.append(helper.make_node("Div", ["clipped", "divisors"], ["multiclass_nms3_0.tmp_0"]))
    graph.input.append(graph.input.pop(0))


def nanodet_plus(path: Path, **changes: Any) -> Path:
    """NanoDet-Plus at 64: 85 rows of 80 class scores and four distributions over eight bins."""
    rng = np.random.default_rng(18)
    scores = rng.uniform(0, 0.4, (1, 85, 80))
    scores[0, :60, 0] = rng.uniform(0.1, 0.9, 60)
    rows = np.concatenate([scores, rng.uniform(-4, 4, (1, 85, 32))], axis=2).astype(np.float32)
    return tiny_file(path, [Output("output", rows, 0.1)], **{"name": "data", "opset": 11} | changes)


def nanodet(path: Path, **changes: Any) -> Path:
    """NanoDet-m at 64: scores of three strides, then distributions."""
    rng = np.random.default_rng(19)
    scores = [rng.uniform(0, 0.9, (1, n * n, 80)).astype(np.float32) for n in (8, 4, 2)]
    sides = [rng.uniform(-4, 4, (1, n * n, 32)).astype(np.float32) for n in (8, 4, 2)]
    outputs = [Output(f"cls_pred_stride_{8 << i}", part, 0.1) for i, part in enumerate(scores)]
    outputs += [Output(f"dis_pred_stride_{8 << i}", part, 0.3) for i, part in enumerate(sides)]
    return tiny_file(path, outputs, **{"name": "input.1", "opset": 11} | changes)


def torchvision(path: Path, **changes: Any) -> Path:
    """torchvision's Faster R-CNN: one image without a batch axis; boxes, labels, scores in this order."""
    outputs = [
        Output("boxes", random_boxes(10, 64), 1.0, ("n", 4)),
        Output("labels", np.arange(10) % 3, 0, ("n",)),
        Output("scores", np.linspace(0.9, 0.1, 10, dtype=np.float32), 0.01, ("n",)),
    ]

    def flat(model: onnx.ModelProto) -> None:
        for constant in model.graph.initializer:
            shapes = {"boxes/shape": [-1, 4], "labels/shape": [-1], "scores/shape": [-1]}
            if constant.name in shapes:
                constant.CopyFrom(numpy_helper.from_array(np.array(shapes[constant.name], np.int64), constant.name))

    facts: dict[str, Any] = {"name": "image", "shape": (3, 64, 64), "opset": 13, "change": flat}
    return tiny_file(path, outputs, **facts | changes)


def rt_detr(path: Path, **changes: Any) -> Path:
    """RT-DETR as deployed: the size of the image as a second input, labels first."""
    outputs = [
        Output("labels", np.arange(300)[None] % 4, 0, ("N", 300)),
        Output("boxes", random_boxes(300, 64)[None], 1.0, ("N", 300, 4)),
        Output("scores", np.linspace(0.9, 0.02, 300, dtype=np.float32)[None], 0.001, ("N", 300)),
    ]
    facts: dict[str, Any] = {"shape": ("N", 3, 64, 64), "opset": 16}
    facts["more_inputs"] = {"orig_target_sizes": ("int64", ("N", 2))}
    return tiny_file(path, outputs, **facts | changes)


def rf_detr(path: Path, **changes: Any) -> Path:
    """RF-DETR: centers and sides from 0 to 1, and logits, both ends unsorted."""
    rng = np.random.default_rng(16)
    dets = np.concatenate([rng.uniform(0.2, 0.8, (1, 20, 2)), rng.uniform(0.05, 0.4, (1, 20, 2))], axis=2)
    logits = rng.normal(-4, 2, (1, 20, 91))
    logits[0, :12, 1] = np.linspace(2, -2, 12)
    outputs = [Output("dets", dets.astype(np.float32), 0.02), Output("labels", logits.astype(np.float32), 0.1)]
    return tiny_file(path, outputs, **{"name": "input"} | changes)
