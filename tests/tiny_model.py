"""A model of a few kilobytes with the inputs, outputs and manifest of an exported one: keypoint k detects a color.

Heatmap k is the average over 4 x 4 pixels of color k mod 3 (red, green, blue) minus half of the other two colors, so
that white gives no response and a red spot is detected by keypoints 0, 3, 6, ...
"""

from pathlib import Path

import numpy as np

from featherpose.manifest import Manifest
from featherpose.onnx_metadata import KEY
from featherpose.size import Size
from featherpose.skeleton import COCO17

SIZE = Size(height=64, width=48)


def tiny_manifest(**changes) -> Manifest:
    facts = {
        "network": "tiny",
        "skeleton": COCO17,
        "input_size": SIZE,
        "codec": {"name": "msra", "stride": 4, "sigma": 2.0, "unbiased": False},
    }
    return Manifest(**facts | changes)


def tiny_model(
    path: Path, manifest: Manifest | None = None, *, metadata: str | None = None, batch: str | int = "N"
) -> Path:
    """Write the model; `metadata` replaces the text of the manifest ("" omits it)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    manifest = manifest or tiny_manifest()
    keypoints, (height, width) = manifest.skeleton.num_keypoints, manifest.input_size.shape
    h, w = height // 4, width // 4
    colors = np.full((keypoints, 3, 1, 1), -0.5, np.float32)
    colors[np.arange(keypoints), np.arange(keypoints) % 3] = 1
    constants = {
        "white": np.float32(255),
        "colors": colors,
        "flat": np.array([0, keypoints, h * w], np.int64),
        "w": np.int64(w),
        "last": np.array([-1], np.int64),
        "two": np.array([2], np.int64),
        "stride": np.float32(4),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["cells", "colors"], ["heatmaps"]),
        helper.make_node("Reshape", ["heatmaps", "flat"], ["rows"]),
        helper.make_node("ReduceMax", ["rows", "two"], ["scores"], keepdims=0),
        helper.make_node("ArgMax", ["rows"], ["index"], axis=2, keepdims=0),
        helper.make_node("Mod", ["index", "w"], ["x"]),
        helper.make_node("Div", ["index", "w"], ["y"]),
        helper.make_node("Unsqueeze", ["x", "last"], ["xs"]),
        helper.make_node("Unsqueeze", ["y", "last"], ["ys"]),
        helper.make_node("Concat", ["xs", "ys"], ["xy"], axis=2),
        helper.make_node("Cast", ["xy"], ["cell"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cell", "stride"], ["keypoints"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, [batch, height, width, 3])],
        [
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, [batch, keypoints, 2]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, keypoints]),
            helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, keypoints, h, w]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    text = manifest.to_json() if metadata is None else metadata
    helper.set_model_props(model, {"author": "tests", KEY: text} if text else {"author": "tests"})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
