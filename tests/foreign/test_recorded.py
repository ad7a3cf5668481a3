"""Files that return the recorded outputs of real models: the adopted file gives the published keypoints and boxes.

The outputs are those of the networks on a photograph of 512 x 512 pixels (tests/parity/README.md). For RTMPose, whose
weights were not at hand, they are synthetic, and for RF-DETR, too.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from featherpose.crop import Crop
from featherpose.foreign.adopt import adopt
from featherpose.letterbox import Letterbox
from featherpose.manifest import ImageManifest, PoseManifest
from featherpose.runtime.session import Session
from featherpose.size import Size
from tests.foreign.tiny import Output, tiny_file

PHOTOGRAPH = Size(height=512, width=512)


@pytest.fixture(scope="module")
def facts(parity: Path) -> dict[str, Any]:
    return json.loads((parity / "adopt.json").read_text())


@pytest.fixture(scope="module")
def arrays(parity: Path) -> dict[str, np.ndarray]:
    with np.load(parity / "adopt.npz") as file:
        return dict(file)


def in_crop(file: Path, family: str, box: list[float], **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Adopted file on one crop of the box -> keypoints (K, 2) in image pixels and scores (K,)."""
    out, manifest = adopt(file, family, options=options)
    assert isinstance(manifest, PoseManifest)
    session = Session.open(out, "cpu", 1)
    outputs = session.run(np.zeros((1, *manifest.input_size.shape, 3), np.uint8))
    crop = Crop.from_box(box, manifest.input_size, manifest.crop_mode, manifest.padding)
    return crop.to_image(outputs["keypoints"][0]), outputs["scores"][0]


def in_image(
    file: Path, family: str, size: Size = PHOTOGRAPH, input_size: Size | None = None, **options: Any
) -> dict[str, np.ndarray]:
    """Adopted file on an image -> its outputs with a score of at least `conf`, points in image pixels."""
    out, manifest = adopt(file, family, options=options, input_size=input_size)
    assert isinstance(manifest, ImageManifest)
    session = Session.open(out, "cpu", 1)
    outputs = session.run(np.zeros((1, manifest.long_side, manifest.long_side, 3), np.uint8))
    place = Letterbox.of(size, manifest.long_side, manifest.letterbox)
    scores = outputs.get("box_scores", outputs["scores"])
    found = {name: value[scores > manifest.conf] for name, value in outputs.items()}
    found["boxes_xyxy"] = place.to_image(found["boxes_xyxy"].reshape(-1, 2, 2)).reshape(-1, 4)
    if "keypoints" in found:
        found["keypoints"] = place.to_image(found["keypoints"])
    return found


def assert_boxes(found: dict[str, np.ndarray], decoded: list[list[float]]) -> None:
    wanted = np.array(decoded).reshape(-1, 5)
    np.testing.assert_allclose(found["boxes_xyxy"], wanted[:, :4], rtol=0, atol=0.01)
    np.testing.assert_allclose(found["scores"], wanted[:, 4], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "decoding"), [("tinypose256", "quarter"), ("ultralight", "dark 3"), ("tinypose128", "dark 11")]
)
def test_heatmaps_decode_to_the_published_keypoints(name: str, decoding: str, facts, arrays, tmp_path: Path) -> None:
    maps = arrays[f"{name}_heatmaps_f16"].astype(np.float32)[None]
    height, width = 4 * maps.shape[2], 4 * maps.shape[3]
    outputs = [Output("conv2d_441.tmp_1", maps), Output("argmax_0.tmp_0", np.zeros((1, 17), np.int64))]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="image", shape=(1, 3, height, width), opset=11)
    word, *kernel = decoding.split()
    options = {"decoding": word, **({"kernel": int(kernel[0])} if kernel else {})}
    keypoints, scores = in_crop(file, "heatmap", facts[name]["box_xyxy"], **options)
    wanted = np.array(facts[name][decoding])
    np.testing.assert_allclose(keypoints, wanted[:, :2], rtol=0, atol=0.02)
    np.testing.assert_allclose(scores, wanted[:, 2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("score", ["min", "mean"])
def test_simcc_decodes_to_the_published_keypoints(score: str, facts, arrays, tmp_path: Path) -> None:
    """The last keypoint has no response above 0 in x: at bin -1 by the smaller maximum."""
    outputs = [Output("simcc_x", arrays["rtmpose_x"]), Output("simcc_y", arrays["rtmpose_y"])]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="input", shape=("batch", 3, 256, 192), opset=11)
    keypoints, scores = in_crop(file, "rtmpose", facts["rtmpose"]["box_xyxy"], score=score)
    np.testing.assert_allclose(keypoints, facts["rtmpose"][score], rtol=0, atol=0.001)
    np.testing.assert_allclose(scores, facts["rtmpose"][f"score_{score}"], rtol=0, atol=1e-5)


def test_simcc_of_one_bin_per_pixel(facts, arrays, tmp_path: Path) -> None:
    outputs = [Output("output0", arrays["simcc1_x"][None]), Output("output1", arrays["simcc1_y"][None])]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="input", shape=(1, 3, 256, 192))
    keypoints, scores = in_crop(file, "rtmpose", facts["simcc1"]["box_xyxy"], split_ratio=1)
    wanted = np.array(facts["simcc1"]["decoded"])
    np.testing.assert_allclose(np.column_stack([keypoints, scores]), wanted, rtol=0, atol=0.001)


def test_movenet_gives_the_recorded_keypoints(facts, arrays, tmp_path: Path) -> None:
    outputs = [Output("output_0", arrays["movenet_out"])]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="input", shape=(1, 192, 192, 3), dtype="int32", opset=13)
    out, _ = adopt(file, "movenet")
    found = Session.open(out, "cpu", 1).run(np.zeros((1, 192, 192, 3), np.uint8))
    recorded = facts["movenet"]
    wanted = np.array(recorded["decoded"])
    in_image = (found["keypoints"][0] - recorded["pad_left_top"]) * recorded["image_px_per_input_px"]
    np.testing.assert_allclose(in_image, wanted[:, :2], rtol=0, atol=0.001)
    np.testing.assert_allclose(found["scores"][0], wanted[:, 2], rtol=0, atol=1e-6)


def test_yolo_pose_gives_the_recorded_person(facts, arrays, tmp_path: Path) -> None:
    table = np.zeros((1, 56, 1344), np.float32)
    table[0, :, arrays["yolopose_index"]] = arrays["yolopose_columns"]
    x_y = np.r_[0:4, 5:56:3, 6:56:3]
    table[:, x_y] *= 256  # recorded from a file that divides by the side
    file = tiny_file(tmp_path / "m.onnx", [Output("output0", table)], shape=(1, 3, 256, 256))
    found = in_image(file, "yolo-pose")
    (person,) = facts["yolo_pose"]["kept"]
    np.testing.assert_allclose(found["boxes_xyxy"][0], person["box_xyxy_score"][:4], rtol=0, atol=0.01)
    np.testing.assert_allclose(found["box_scores"], person["box_xyxy_score"][4:], rtol=0, atol=1e-5)
    keypoints = np.concatenate([found["keypoints"][0], found["scores"][0][:, None]], axis=1)
    np.testing.assert_allclose(keypoints, person["keypoints_x_y_conf"], rtol=0, atol=0.01)


def test_rtmdet_gives_the_recorded_box(facts, arrays, tmp_path: Path) -> None:
    outputs = [Output("dets", arrays["rtmdet_dets"]), Output("labels", arrays["rtmdet_labels"])]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="input", shape=("batch", 3, "height", "width"), opset=11)
    found = in_image(file, "rtmdet", input_size=Size(height=320, width=320))
    assert_boxes(found, facts["rtmdet"]["decoded"])


@pytest.mark.parametrize(("name", "side"), [("rtmdet_raw6", 640), ("rtmdet_raw3", 320)])
def test_rtmdet_without_nms_gives_the_recorded_boxes(name: str, side: int, facts, arrays, tmp_path: Path) -> None:
    cells = [side // stride for stride in (8, 16, 32)]
    rows = np.zeros((sum(n * n for n in cells), 5), np.float32)
    rows[:, 0] = -20
    rows[arrays[f"{name}_index"]] = arrays[f"{name}_rows"]
    maps = np.split(rows, np.cumsum([n * n for n in cells])[:-1])
    joined = [part.reshape(1, n, n, 5) for part, n in zip(maps, cells, strict=True)]
    if name == "rtmdet_raw3":
        outputs = [Output(str(1211 + 2 * i), part) for i, part in enumerate(joined)]
    else:
        planes = [part.transpose(0, 3, 1, 2) for part in joined]
        outputs = [Output(f"rtmdet_head.0.{i}", part[:, :1]) for i, part in enumerate(planes)]
        outputs += [Output(f"rtmdet_head.1.{i}", part[:, 1:]) for i, part in enumerate(planes)]
    file = tiny_file(tmp_path / "m.onnx", outputs, shape=(1, 3, side, side))
    assert_boxes(in_image(file, "rtmdet"), facts[name]["decoded"])


def test_yolox_gives_the_recorded_box(facts, arrays, tmp_path: Path) -> None:
    rows = np.zeros((1, 3549, 85), np.float32)
    rows[0, arrays["yolox_index"]] = arrays["yolox_rows"]
    file = tiny_file(tmp_path / "m.onnx", [Output("output", rows)], shape=(1, 3, 416, 416), opset=11)
    assert_boxes(in_image(file, "yolox"), facts["yolox"]["decoded"])


@pytest.mark.parametrize("side", [320, 192])
def test_picodet_gives_the_recorded_boxes(side: int, facts, arrays, tmp_path: Path) -> None:
    """Two factors back to the image; and as many boxes after NMS as recorded."""
    recorded = facts[f"picodet{side}"]
    scores = np.zeros((1, 1, {320: 2125, 192: 765}[side]), np.float32)
    all_boxes = np.zeros((1, scores.size, 4), np.float32)
    index = arrays[f"picodet{side}_index"]  # those with a score above 0.025
    scores[0, 0, index] = arrays[f"picodet{side}_rows"][:, 0]
    all_boxes[0, index] = arrays[f"picodet{side}_rows"][:, 1:]
    outputs = [Output("concat_8.tmp_0", all_boxes), Output("transpose_8.tmp_0", scores)]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="image", shape=(1, 3, side, side), opset=11)
    found = in_image(file, "picodet", conf=0.025)
    assert len(found["scores"]) == recorded["rows_after_nms"]
    best = found["scores"] > 0.3
    assert_boxes({name: value[best] for name, value in found.items()}, recorded["decoded"])


STRIDES = (8, 16, 32)
STRIDES_OF_PLUS = (8, 16, 32, 64)
NANODET = [
    ("NanoDet, from the center", STRIDES, False, 16, (2, 3), [24, 48, 72, 56]),
    ("NanoDet, one output", STRIDES, True, 16, (2, 3), [24, 48, 72, 56]),
    ("NanoDet-Plus, from the corner", STRIDES_OF_PLUS, True, 16, (2, 3), [16, 40, 64, 48]),
    ("NanoDet-Plus, odd cells, clipped", STRIDES_OF_PLUS, True, 64, (0, 1), [0, 32, 96, 64]),
]
"""Strides; whether there is one output; stride, column and row of a cell that sees 1, 0.5, 2 and 0 strides far to left,
top, right and bottom; its box in an input of 96 px."""


@pytest.mark.parametrize(
    ("strides", "joined", "stride", "cell", "box"), [pytest.param(*row[1:], id=row[0]) for row in NANODET]
)
def test_nanodet_by_hand(
    strides: tuple[int, ...], joined: bool, stride: int, cell: tuple[int, int], box: list[int], tmp_path: Path
) -> None:
    """No output of a real file is recorded in whole: computed by hand from the published formula."""
    maps = {s: np.zeros((math.ceil(96 / s), math.ceil(96 / s), 112), np.float32) for s in strides}
    column, row = cell
    seen = maps[stride][row, column]
    seen[0] = 0.75
    distributions = seen[80:].reshape(4, 8)
    for side, bins in enumerate(([1], [0, 1], [2], [0])):
        distributions[side, bins] = 60
    tables = [part.reshape(1, -1, 112) for part in maps.values()]
    if joined:
        outputs = [Output("output", np.concatenate(tables, axis=1))]
    else:
        outputs = [Output(f"cls_pred_stride_{s}", part[..., :80]) for s, part in zip(strides, tables, strict=True)]
        outputs += [Output(f"dis_pred_stride_{s}", part[..., 80:]) for s, part in zip(strides, tables, strict=True)]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="data", shape=(1, 3, 96, 96), opset=11)
    assert_boxes(in_image(file, "nanodet", Size(height=96, width=96)), [[*box, 0.75]])


def test_rf_detr_takes_the_best_pairs(facts, tmp_path: Path) -> None:
    """Of all queries and classes; slot 1 is the person."""
    rng = np.random.default_rng(12)
    logits = rng.normal(-5, 0.5, (1, 300, 91)).astype(np.float32)
    parts = [rng.uniform(0.1, 0.9, (1, 300, 2)), rng.uniform(0.05, 0.5, (1, 300, 2))]
    dets = np.concatenate(parts, axis=2).astype(np.float32)
    for query, label, value in [(7, 1, 2.0), (50, 1, 0.5), (51, 18, 1.0), (90, 0, 3.0), (120, 90, 1.5)]:
        logits[0, query, label] = value
    outputs = [Output("dets", dets), Output("labels", logits)]
    file = tiny_file(tmp_path / "m.onnx", outputs, name="input", shape=(1, 3, 64, 64))
    found = in_image(file, "boxes-scores-labels", Size(height=480, width=640))
    # The published result is clipped to the image.
    found["boxes_xyxy"] = np.clip(found["boxes_xyxy"], 0, (640, 480, 640, 480))
    assert_boxes(found, facts["rf_detr"]["decoded"])
