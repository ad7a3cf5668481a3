"""Export of a person detector: one ONNX file for images of every size, decoding and NMS in the graph."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from featherpose import examples, files, images
from featherpose.boxes import iou
from featherpose.errors import ModelError
from featherpose.exporting import crops
from featherpose.exporting.onnx import check_path, convert, with_manifest
from featherpose.exporting.parity import engine_versions
from featherpose.kinds import DETECTOR, SIDE_MULTIPLE
from featherpose.letterbox import Letterbox
from featherpose.manifest import DetectorManifest
from featherpose.networks.feather_detect import DetectorNetwork, points_of
from featherpose.networks.preprocess import Normalize
from featherpose.nms import MAX_BOXES, MIN_SCORE, NMS_IOU
from featherpose.runtime.session import Session
from featherpose.size import Size

ALLOWED = {"boxes": 0.05, "scores": 1e-3}
"""Largest differences: px of boxes, whose sides are up to a few hundred px from their point, and scores."""
ROUNDING = 1e-3
"""Differences of scores and of IoU below this may decide differently in torch and in the engine."""
MAX_SIDE = 2048  # of the input; torch.export needs a bound
Detections = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes (M, 4) left, top, right, bottom in input pixels, and scores (M,)."""


class DetectorGraph(nn.Module):
    """The part of the graph before NMS: image uint8 (1, H, W, 3) RGB -> boxes (1, P, 4) px, scores (1, 1, P)."""

    def __init__(self, network: DetectorNetwork) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.network.detect_only(self.normalize(image).contiguous())
        height, width = image.shape[1:3]
        points = torch.cat([points_of(height // stride, width // stride, stride) for stride in self.network.strides])
        low = points - raw.distances[..., :2]  # (1, P, 2)
        high = points + raw.distances[..., 2:]
        return torch.cat((low, high), 2), raw.logits.sigmoid()[:, None]  # (1, P, 4), (1, 1, P)

    @torch.inference_mode()
    def run(self, image: NDArray[np.uint8]) -> Detections:
        """Image uint8 (1, H, W, 3) -> all P predictions, before NMS."""
        boxes, scores = self(torch.from_numpy(image))
        return boxes[0].numpy(), scores[0, 0].numpy()


def export_detector(network: DetectorNetwork, path: str | Path, manifest: DetectorManifest) -> DetectorManifest:
    """Network, path of an .onnx file and its manifest -> the manifest with the parity result added.

    The file is written only if onnxruntime finds in the example images, at two sizes, and in synthetic ones what torch
    predicts and NMS leaves of it. Otherwise the error says where they differ, and nothing is written.
    """
    path = Path(path)
    check_path(path)
    graph = DetectorGraph(copy.deepcopy(network).cpu()).eval()
    file = to_onnx(graph)
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        draft = Path(folder) / path.name
        draft.write_bytes(with_manifest(file, manifest))
        session = Session.open(draft, "cpu")
        parity = _check_parity(graph, session, parity_images(manifest.long_side))
    manifest = replace(manifest, parity=parity)
    files.replace(path, with_manifest(file, manifest))
    return manifest


def to_onnx(graph: DetectorGraph) -> onnx.ModelProto:
    """The graph in eval mode -> the checked ONNX model with NMS; H and W of the image are symbolic."""
    largest = MAX_SIDE // SIDE_MULTIPLE
    dynamic = {
        1: SIDE_MULTIPLE * torch.export.Dim("h", min=1, max=largest),
        2: SIDE_MULTIPLE * torch.export.Dim("w", min=1, max=largest),
    }
    example = torch.zeros(1, 6 * SIDE_MULTIPLE, 8 * SIDE_MULTIPLE, 3, dtype=torch.uint8)
    file = convert(graph, example, DETECTOR.input.name, ("all_boxes", "all_scores"), dynamic)
    _name_sides(file)
    _append_nms(file.graph)
    onnx.checker.check_model(file, full_check=True)
    return file


def parity_images(long_side: int) -> dict[str, NDArray[np.uint8]]:
    """Name -> input uint8 (H, W, 3): the example images at two sizes, and synthetic patterns."""
    photographs = [name for name in examples.NAMES if name.endswith(".jpg")]
    found: dict[str, NDArray[np.uint8]] = {}
    for name in photographs:
        pixels = images.read(examples.find(name))
        size = Size(height=pixels.shape[0], width=pixels.shape[1])
        for side in (long_side, long_side + SIDE_MULTIPLE):
            found[f"{name} at {side}"] = images.letterbox(pixels, Letterbox.of(size, side))
    return found | crops.synthetic(Size(height=long_side, width=long_side - SIDE_MULTIPLE))


def _name_sides(file: onnx.ModelProto) -> None:
    """Call the sides of the input H and W, as `kinds` does; the exporter's shapes in between depend on its names."""
    del file.graph.value_info[:]
    sides = file.graph.input[0].type.tensor_type.shape.dim
    sides[1].dim_param = "H"
    sides[2].dim_param = "W"


def _append_nms(graph: onnx.GraphProto) -> None:
    """Suppress duplicates by the ONNX operator, and output the remaining boxes and scores, best first."""
    constants = {
        "max_boxes": np.array([MAX_BOXES], np.int64),
        "iou_threshold": np.array([NMS_IOU], np.float32),
        "score_threshold": np.array([MIN_SCORE], np.float32),
        "column": np.array(2, np.int64),
        "box_shape": np.array([-1, 4], np.int64),
        "flat": np.array([-1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"nms_{name}") for name, value in constants.items())
    thresholds = ["nms_max_boxes", "nms_iou_threshold", "nms_score_threshold"]
    graph.node.extend(
        [
            helper.make_node("NonMaxSuppression", ["all_boxes", "all_scores", *thresholds], ["nms_selected"]),
            helper.make_node("Gather", ["nms_selected", "nms_column"], ["nms_rows"], axis=1),
            helper.make_node("Reshape", ["all_boxes", "nms_box_shape"], ["nms_boxes"]),
            helper.make_node("Reshape", ["all_scores", "nms_flat"], ["nms_scores"]),
            helper.make_node("Gather", ["nms_boxes", "nms_rows"], ["boxes_xyxy"]),
            helper.make_node("Gather", ["nms_scores", "nms_rows"], ["scores"]),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes_xyxy", TensorProto.FLOAT, ["M", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["M"]),
        ]
    )


def _check_parity(graph: DetectorGraph, session: Session, inputs: dict[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Torch and onnxruntime on each input -> the parity record; ModelError where they differ."""
    worst = {"boxes": 0.0, "scores": 0.0}
    total = 0
    for name, pixels in inputs.items():
        outputs = session.run(pixels[None])
        found = outputs["boxes_xyxy"], outputs["scores"]
        everything = graph.run(pixels[None])
        differences = differences_from_all(everything, found)
        for what, allowed in ALLOWED.items():
            if not differences[what] <= allowed:
                raise ModelError(
                    f"Parity check failed on {name}: {what} differ by {differences[what]:.3g}, allowed {allowed:g}."
                )
        if problem := wrong_nms(everything, found):
            raise ModelError(f"Parity check failed on {name}: {problem}.")
        worst = {what: max(worst[what], differences[what]) for what in worst}
        total += len(found[1])
    return {"engines": engine_versions(), "images": list(inputs), "allowed": ALLOWED, **worst, "boxes_compared": total}


def differences_from_all(everything: Detections, found: Detections) -> dict[str, float]:
    """All predictions of torch and the engine's detections -> largest differences of boxes in px and of scores.

    Each detection is compared with the nearest prediction: rounding may change the order of nearly equal scores.
    """
    if not len(found[1]):
        return {"boxes": 0.0, "scores": 0.0}
    away = np.abs(found[0][:, None] - everything[0][None]).max(axis=2)  # (M, P)
    nearest = away.argmin(axis=1)
    return {"boxes": float(away.min(axis=1).max()), "scores": float(np.abs(found[1] - everything[1][nearest]).max())}


def wrong_nms(everything: Detections, found: Detections) -> str:
    """All predictions of torch and the engine's detections -> what is wrong with its NMS, or "".

    Detections must not overlap each other more than allowed, and each prediction must be a detection or overlap one
    that is at least as good; both up to rounding, because it decides between nearly equal scores.
    """
    boxes, scores = found
    overlap = iou(boxes, boxes)
    np.fill_diagonal(overlap, 0)
    if overlap.max(initial=0) > NMS_IOU + ROUNDING:
        return f"two detections have an IoU of {overlap.max():.3f}"
    if len(boxes) == MAX_BOXES:
        return ""  # what is missing may be beyond the limit
    clear = everything[1] > MIN_SCORE + ROUNDING
    is_better = scores[None] >= everything[1][clear][:, None] - ROUNDING  # (P, M)
    explained = ((iou(everything[0][clear], boxes) >= NMS_IOU - ROUNDING) & is_better).any(axis=1)
    return "" if explained.all() else f"{np.count_nonzero(~explained)} detections are missing"
