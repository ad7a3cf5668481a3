"""The proof catches what goes wrong when other projects' models are wrapped: one deliberate fault in each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import numpy_helper

from featherpose import images
from featherpose.crop import Crop
from featherpose.errors import ModelError
from featherpose.foreign import placing
from featherpose.foreign.adopt import with_manifest
from featherpose.foreign.families import FAMILIES
from featherpose.foreign.family import Candidate, ImageCandidate, Request, read_options
from featherpose.foreign.original import read_original
from featherpose.foreign.pixels import IMAGENET_MEAN, IMAGENET_STD, Normalization
from featherpose.foreign.proof import prove, published_matrix
from featherpose.letterbox import Letterbox
from featherpose.size import Size
from tests.foreign import tiny
from tests.tiny_model import tiny_manifest

Fault = Callable[[Candidate, Callable[..., Candidate]], Candidate]


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def constant(name: str, change: Callable[[np.ndarray], Any]) -> Fault:
    """A constant of the written graph has another value."""

    def fault(right: Candidate, make: Callable[..., Candidate]) -> Candidate:
        (found,) = [c for graph in graphs(right.model.graph) for c in graph.initializer if c.name == name]
        value = numpy_helper.to_array(found)
        found.CopyFrom(numpy_helper.from_array(np.asarray(change(value), value.dtype), name))
        return right

    return fault


def wrapped(**options: Any) -> Fault:
    """The graph was wrapped with other options than those of the published run."""
    return lambda right, make: dataclasses.replace(right, model=make(**options).model)


def letterbox(**changes: Any) -> Fault:
    """The manifest says another letterbox."""

    def fault(right: Candidate, make: Callable[..., Candidate]) -> Candidate:
        assert isinstance(right, ImageCandidate)
        fit = dataclasses.replace(right.manifest.letterbox, **changes)
        return dataclasses.replace(right, manifest=dataclasses.replace(right.manifest, letterbox=fit))

    return fault


FAULTS = {
    "RTMPose: BGR for RGB": ("rtmpose", tiny.simcc, wrapped(channels="bgr")),
    "RTMPose: mean of another order": ("rtmpose", tiny.simcc, wrapped(mean=[103.53, 116.28, 123.675])),
    "RTMPose: pixels from 0 to 1": ("rtmpose", tiny.simcc, wrapped(mean=[0, 0, 0], std=[255, 255, 255])),
    "RTMPose: split ratio": ("rtmpose", tiny.simcc, constant("split_ratio", lambda ratio: 1)),
    "RTMPose: score of rtmlib": ("rtmpose", tiny.simcc, wrapped(score="mean")),
    "heatmap: BGR for RGB": ("heatmap", tiny.heatmaps, wrapped(channels="bgr")),
    "heatmap: half a cell": ("heatmap", tiny.heatmaps, constant("quarter", lambda quarter: -quarter)),
    "heatmap: size of a cell": ("heatmap", tiny.heatmaps, constant("cell", lambda cell: cell * 63 / 64)),
    "heatmap: x and y swapped": ("heatmap", tiny.heatmaps, constant("integers_12", lambda width: 16)),
    "heatmap: another decoding": ("heatmap", tiny.heatmaps, wrapped(decoding="dark")),
    "MoveNet: y before x": ("movenet", tiny.movenet, constant("integers_1_0", np.flip)),
    "MoveNet: pixels from 0 to 1": ("movenet", tiny.movenet, wrapped(std=[255, 255, 255])),
    "YOLO pose: BGR for RGB": ("yolo-pose", tiny.yolo_pose, wrapped(channels="bgr")),
    "YOLO pose: top left": ("yolo-pose", tiny.yolo_pose, letterbox(place="top_left")),
    "YOLO pose: black border": ("yolo-pose", tiny.yolo_pose, letterbox(border=0)),
    "YOLO pose: threshold of NMS": ("yolo-pose", tiny.yolo_pose, wrapped(iou=0.2)),
    "RTMO: pixels from 0 to 1": ("rtmo", tiny.rtmo, wrapped(std=[255, 255, 255])),
    "RTMO: center": ("rtmo", tiny.rtmo, letterbox(place="center")),
    "RTMDet: half a cell": ("rtmdet", tiny.rtmdet_maps, constant("points", lambda points: points + 4)),
    "RTMDet: x and y swapped": ("rtmdet", tiny.rtmdet_maps, constant("points", lambda points: points[:, ::-1])),
    "RTMDet: RGB for BGR": ("rtmdet", tiny.rtmdet_maps, wrapped(channels="rgb")),
    "RTMDet: half a pixel": ("rtmdet", tiny.rtmdet_maps, letterbox(points="centers")),
    "YOLOX: half a cell": ("yolox", tiny.yolox, constant("cell_corners", lambda corners: corners + 4)),
    "YOLOX: pixels from 0 to 1": ("yolox", tiny.yolox, wrapped(std=[255, 255, 255])),
    "YOLOX: stretched": ("yolox", tiny.yolox, letterbox(shape="stretch")),
    "YOLOX: another class": ("yolox", tiny.yolox, wrapped(person=1)),
    "PicoDet: BGR for RGB": ("picodet", tiny.picodet, wrapped(channels="bgr")),
    "PicoDet: pixels from 0 to 1": ("picodet", tiny.picodet, wrapped(mean=[0, 0, 0], std=[1, 1, 1])),
    "PicoDet: letterbox": ("picodet", tiny.picodet, letterbox(shape="square")),
    "PicoDet: bilinear": ("picodet", tiny.picodet, letterbox(interpolation="linear")),
    "PicoDet: another class": ("picodet", tiny.picodet_nms, wrapped(person=1)),
    "PicoDet: size of the image": ("picodet", tiny.picodet_nms, constant("size_1", lambda sides: sides - 32)),
    "PicoDet: scale of x and y": ("picodet", tiny.picodet_nms, constant("size_2", lambda ones: ones * [[1, 2]])),
    "NanoDet: half a cell": ("nanodet", tiny.nanodet, constant("points", lambda points: points - 4)),
    "NanoDet: bins from 1": ("nanodet", tiny.nanodet, constant("bins", lambda bins: bins + 1)),
    "NanoDet: gray border": ("nanodet", tiny.nanodet, letterbox(border=114)),
    "NanoDet: top left": ("nanodet", tiny.nanodet, letterbox(place="top_left")),
    "NanoDet-Plus: half a cell": ("nanodet", tiny.nanodet_plus, constant("points", lambda points: points + 4)),
    "NanoDet-Plus: center": ("nanodet", tiny.nanodet_plus, letterbox(shape="square")),
    "NanoDet-Plus: RGB for BGR": ("nanodet", tiny.nanodet_plus, wrapped(channels="rgb")),
    "torchvision: another class": ("boxes-scores-labels", tiny.torchvision, wrapped(person=2)),
    "RF-DETR: letterbox": ("boxes-scores-labels", tiny.rf_detr, letterbox(shape="square")),
}


@pytest.mark.parametrize(("family", "write", "fault"), FAULTS.values(), ids=FAULTS)
def test_fault_is_caught(family: str, write: Callable[..., Path], fault: Fault, tmp_path: Path):
    original = read_original(write(tmp_path / "m.onnx"))

    def make(**options: Any) -> Candidate:
        values = read_options(family, FAMILIES[family].options, options)
        return FAMILIES[family].make(original, values, Request({"network": "m"}))

    wrong = fault(make(), make)
    out = tmp_path / "wrong.onnx"
    out.write_bytes(with_manifest(wrong.model, wrong.manifest))
    with pytest.raises(ModelError, match=r"does not equal the original: .* results differ"):
        prove(wrong, out)


@pytest.mark.parametrize("codec", ["msra", "udp"])
@pytest.mark.parametrize("box", [(90, 0, 420, 512), (100, 40, 400, 460), (3, 5, 700, 60)])
def test_published_crop_is_that_of_the_runtime(box: tuple[int, ...], codec: str):
    """Two independent computations of the transform; the first two boxes' matrices are recorded."""
    size = Size(height=256, width=192)
    manifest = tiny_manifest(input_size=size, codec={"name": codec}, crop_mode=codec)
    matrix = published_matrix(np.array(box, np.float64), manifest)
    np.testing.assert_allclose(matrix, Crop.from_box(box, size, codec).matrix, atol=1e-9)
    recorded = {(90, "msra"): [[0.4, 0, -6], [0, 0.4, 25.6]]}
    recorded[100, "msra"] = [[0.487619048, 0, -25.9047619], [0, 0.487619048, 6.0952381]]
    recorded[90, "udp"] = [[0.397916675, 0, -5.96875], [0, 0.3984375, 25.5]]
    if (box[0], codec) in recorded:
        np.testing.assert_allclose(matrix, recorded[box[0], codec], atol=1e-6)


def smooth() -> np.ndarray:
    """The synthetic picture of the recorded runs, (480, 640, 3)."""
    grid = np.random.default_rng(7).integers(0, 256, (16, 21, 3), np.uint8)
    return images.resize(grid, Size(height=480, width=640))


BLACK = -sum(mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
"""Sum of a black pixel's values. ncnn ran NanoDet-m on 256x320 pixels; the square input has 64 more black rows."""
INPUTS = [
    ("rtmdet", placing.top_left, 320, 37835764, 46411.4047, {0: 2.186841, 16168: 0.35677561, 32336: 0.70535946}),
    ("yolox", placing.top_left, 416, 63833454, 63833454.0, {0: 229, 27324: 98, 54649: 34}),
    (
        "picodet",
        placing.stretched_cubic,
        320,
        38723048,
        61785.2835,
        {0: 0.2624369, 16168: 0.33093593, 32336: -0.13143253},
    ),
    ("picodet", placing.stretched_cubic, 192, 13939962, 22236.8549, {0: 0.2624369, 5820: 0.98167652}),
    ("nanodet", placing.centered_in_black, 320, 29080564, 16497.8489 + 64 * 320 * BLACK, {}),
    ("yolo-pose", placing.centered, 256, 24181011, 94827.4962, {}),
]


@pytest.mark.parametrize(
    ("family", "place", "side", "canvas_sum", "input_sum", "samples"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_published_input_is_the_recorded_one(family, place, side, canvas_sum, input_sum, samples):
    options: Any = FAMILIES[family].options()
    canvas = place(smooth(), side).canvas
    given = Normalization(options.channels, options.mean, options.std).published(canvas)
    assert int(canvas.sum(dtype=np.int64)) == canvas_sum
    assert given.sum(dtype=np.float64) == pytest.approx(input_sum, rel=5e-7)
    assert {index: given.flat[index] for index in samples} == pytest.approx(samples, abs=1e-6)


@pytest.mark.parametrize("shape", [(480, 640), (512, 512), (481, 333), (7, 500)])
@pytest.mark.parametrize("name", ["top_left", "centered", "centered_in_black", "stretched", "stretched_cubic"])
def test_published_placing_is_a_letterbox(name: str, shape: tuple[int, int]):
    """Two independent computations of the canvas and of its pixels."""
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    placed = getattr(placing, name)(image, 320)
    fit = getattr(placing, name.upper())
    box = Letterbox.of(Size(height=shape[0], width=shape[1]), 320, fit)
    np.testing.assert_array_equal(images.letterbox(image, box), placed.canvas)
    points = np.array([[0, 0], [31.5, 250], [320, 320]], np.float32)
    np.testing.assert_allclose(box.to_image(points), placed.to_image(points), atol=1e-9)
    np.testing.assert_allclose(box.to_input(box.to_image(points)), points, atol=1e-9)
