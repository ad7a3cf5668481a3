"""Models of a few kilobytes with the inputs, outputs and manifests of exported ones.

`tiny_model`, of kind "pose": heatmap k is the average over 4 x 4 pixels of color k mod 3 (red, green, blue) minus half
of the other two colors, so that white gives no response and a red spot is detected by keypoints 0, 3, 6, ...

`tiny_image_model`, of the other kinds: a person is a red cell of 32 x 32 pixels, with all keypoints at its center; the
maps of a bottom_up model are those heatmaps, for the whole image.
"""

from pathlib import Path
from typing import Any

import numpy as np

from featherpose.manifest import (
    BottomUpManifest,
    DetectorManifest,
    ImageManifest,
    PoseManifest,
    PosesManifest,
)
from featherpose.onnx_metadata import KEY
from featherpose.size import Size
from featherpose.skeleton import COCO17

SIZE = Size(height=64, width=48)


def tiny_manifest(**changes) -> PoseManifest:
    facts = {
        "network": "tiny",
        "skeleton": COCO17,
        "input_size": SIZE,
        "codec": {"name": "msra", "stride": 4, "sigma": 2.0, "unbiased": False},
    }
    return PoseManifest(**facts | changes)


def tiny_image_manifest(kind: str, **changes) -> ImageManifest:
    facts: dict[str, Any] = {"network": f"tiny_{kind}", "long_side": 96, "conf": 0.3}
    if kind == "detector":
        return DetectorManifest(**facts | changes)
    facts["skeleton"] = COCO17
    if kind == "poses":
        return PosesManifest(**facts | changes)
    return BottomUpManifest(**facts | {"codec": {"name": "tiny", "maps": ["heatmaps", "tags"]}} | changes)


def tiny_model(
    path: Path,
    manifest: PoseManifest | None = None,
    *,
    metadata: str | None = None,
    batch: str | int = "N",
    heatmaps: bool = True,
) -> Path:
    """Write the model; `metadata` replaces the text of the manifest ("" omits it)."""
    from onnx import TensorProto, helper

    manifest = manifest or tiny_manifest()
    keypoints, (height, width) = manifest.skeleton.num_keypoints, manifest.input_size.shape
    h, w = height // 4, width // 4
    constants = {
        "white": np.float32(255),
        "colors": color_filters(keypoints),
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
    outputs = {"keypoints": [batch, keypoints, 2], "scores": [batch, keypoints]}
    if heatmaps:
        outputs["heatmaps"] = [batch, keypoints, h, w]
    return write(
        path, nodes, {"crops": [batch, height, width, 3]}, outputs, constants, manifest.to_json(), metadata=metadata
    )


def tiny_image_model(path: Path, manifest: ImageManifest, *, metadata: str | None = None) -> Path:
    """Write the model of the manifest's kind; `metadata` replaces the text of the manifest."""
    from onnx import TensorProto, helper

    constants = {
        "white": np.float32(255),
        "colors": color_filters(17),
        "red": color_filters(1),
        "some": np.float32(0.25),
        "columns": np.array([3, 2], np.int64),
        "side": np.float32(32),
        "far": np.float32(31),
        "half": np.float32(15.5),
        "one": np.array([1], np.int64),
        "each": np.ones((1, 17, 1), np.float32),
        "each_score": np.ones((1, 17), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["fine"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["fine", "colors"], ["heatmaps"]),
        helper.make_node("Neg", ["heatmaps"], ["tags"]),
        helper.make_node("AveragePool", ["planes"], ["coarse"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Conv", ["coarse", "red"], ["persons"]),
        helper.make_node("Greater", ["persons", "some"], ["found"]),
        helper.make_node("NonZero", ["found"], ["axes"]),
        helper.make_node("Transpose", ["axes"], ["index"], perm=[1, 0]),
        helper.make_node("GatherND", ["persons", "index"], ["person_scores"]),
        helper.make_node("Gather", ["index", "columns"], ["cell"], axis=1),
        helper.make_node("Cast", ["cell"], ["xy"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xy", "side"], ["low"]),
        helper.make_node("Add", ["low", "far"], ["high"]),
        helper.make_node("Concat", ["low", "high"], ["boxes_xyxy"], axis=1),
        helper.make_node("Add", ["low", "half"], ["middle"]),
        helper.make_node("Unsqueeze", ["middle", "one"], ["middles"]),
        helper.make_node("Mul", ["middles", "each"], ["keypoints"]),
        helper.make_node("Unsqueeze", ["person_scores", "one"], ["columns_of_scores"]),
        helper.make_node("Mul", ["columns_of_scores", "each_score"], ["keypoint_scores"]),
    ]
    shapes = {output.name: list(output.shape) for output in manifest.outputs}
    if manifest.kind == "poses":
        nodes.append(helper.make_node("Identity", ["keypoint_scores"], ["scores"]))
        nodes.append(helper.make_node("Identity", ["person_scores"], ["box_scores"]))
        shapes |= {"keypoints": ["M", 17, 2], "scores": ["M", 17]}
    else:
        nodes.append(helper.make_node("Identity", ["person_scores"], ["scores"]))
    text = manifest.to_json()
    return write(path, nodes, {"image": [1, "H", "W", 3]}, shapes, constants, text, metadata=metadata)


def color_filters(number: int) -> np.ndarray:
    """(number, 3, 1, 1) weights of red, green and blue: filter k responds to color k mod 3."""
    colors = np.full((number, 3, 1, 1), -0.5, np.float32)
    colors[np.arange(number), np.arange(number) % 3] = 1
    return colors


def write(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    constants: dict[str, Any],
    text: str,
    *,
    metadata: str | None,
) -> Path:
    """Write a graph whose inputs are uint8 and whose outputs are float32, with its manifest."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    text = text if metadata is None else metadata
    helper.set_model_props(model, {"author": "tests", KEY: text} if text else {"author": "tests"})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
