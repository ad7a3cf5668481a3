"""YOLOv8, YOLO11 and YOLO26 pose, exported by Ultralytics: boxes and keypoints in one stage.

Raw files give one column for each anchor: center, sides, class scores, then x, y, confidence of each keypoint; NMS is
added. Files with NMS inside, or end-to-end heads, give rows of corners, score, class, and the keypoints; they need no
more than a threshold. The published run is Ultralytics' `predict` with a full square input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.foreign import boxes, placing
from featherpose.foreign.boxes import BoxNodes
from featherpose.foreign.family import (
    Array,
    Family,
    Found,
    ImageCandidate,
    Pixels,
    Request,
    Triple,
    misfit,
    option,
    planar_input,
    square_side,
)
from featherpose.foreign.graph import Nodes, original_output, wrap_image
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import CHANNELS, PLAIN_MEAN, UNIT_STD, Normalization
from featherpose.kinds import POSES
from featherpose.manifest import PosesManifest
from featherpose.skeleton import COCO17


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("rgb", "Order of the color channels.", CHANNELS)
    mean: Triple = option(PLAIN_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(UNIT_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    person: int = option(0, "Label of persons.")
    conf: float = option(0.25, "Persons with a lower score are left out, unless the user says otherwise.")
    iou: float = option(0.7, "NMS threshold, for a file without NMS.")


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with anchors or rows -> candidate of kind poses."""
    given = planar_input(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    skeleton = request.skeleton or COCO17
    name = original.outputs[0].name
    shape = original.run_on_black((1, 3, side, side))[name].shape
    points = 3 * skeleton.num_keypoints
    if len(original.outputs) != 1 or len(shape) != 3:
        raise misfit(original, "wanted one output (1, 4 + classes + 3 K, anchors) or (1, rows, 6 + 3 K).")
    kept = original.metadata.get("kpt_shape", f"[{skeleton.num_keypoints}, 3]")
    if kept != f"[{skeleton.num_keypoints}, 3]":
        raise misfit(original, f"kpt_shape is {kept} in its metadata, wanted [{skeleton.num_keypoints}, 3].")
    # Both can have 57 columns: which axis is the anchors' says the number of anchors, which is large.
    raw = shape[2] > shape[1] if shape[2] != 6 + points else False
    columns = shape[1] if raw else shape[2]
    classes = columns - 4 - points
    if (raw and classes <= options.person) or (not raw and classes != 2):
        raise misfit(
            original, f"its output {shape} does not hold {skeleton.num_keypoints} keypoints of x, y, confidence."
        )

    def build(nodes: Nodes, image: str) -> None:
        normalization.nodes(nodes, original, image)
        table = original_output(nodes, original, name)
        if raw:
            table = nodes.add("Transpose", table, perm=[0, 2, 1])
        _build(nodes, nodes.reshape(table, -1, columns), columns, points, raw, options)

    def published(canvas: Pixels) -> Found:
        table = original.run({given: normalization.published(canvas)})[name][0].astype(np.float32)
        return published_decoding(table.T if raw else table, points, raw, options)

    manifest = PosesManifest(
        **request.facts, skeleton=skeleton, long_side=side, conf=options.conf, letterbox=placing.CENTERED
    )
    model = wrap_image(original, POSES, side, manifest.sizes, build)
    return ImageCandidate(model, manifest, lambda image: placing.centered(image, side), published)


def _build(nodes: Nodes, table: str, columns: int, points: int, raw: bool, options: Options) -> None:
    """Rows (P, columns) -> the outputs of kind poses."""
    box_nodes = BoxNodes(nodes)
    first = columns - points
    if raw:
        all_boxes = box_nodes.corners(nodes.columns(table, 0, 2, 1), nodes.columns(table, 2, 4, 1))
        scores = box_nodes.person_scores(nodes.columns(table, 4, first, 1), options.person)
        chosen = box_nodes.suppressed(all_boxes, scores, options.iou)
    else:
        all_boxes = nodes.columns(table, 0, 4, 1)
        scores = box_nodes.of_label(nodes.columns(table, 4, 5, 1), nodes.columns(table, 5, 6, 1), options.person)
        chosen = box_nodes.kept(scores)
    keypoints = nodes.reshape(nodes.columns(table, first, columns, 1), -1, points // 3, 3)
    box_nodes.give_poses(all_boxes, scores, keypoints, points // 3, chosen)


def published_decoding(rows: Array, points: int, raw: bool, options: Options) -> Found:
    """Rows (P, columns) -> persons in input pixels, as Ultralytics' NMS."""
    first = rows.shape[1] - points
    if raw:
        all_boxes = boxes.corners(rows[:, :2], rows[:, 2:4])
        scores = boxes.person_scores(rows[:, 4:first], options.person)
        chosen = boxes.suppressed(all_boxes, scores, options.iou)
    else:
        all_boxes = rows[:, :4]
        scores = np.where(rows[:, 5] == options.person, rows[:, 4], 0)
        chosen = boxes.kept(scores)
    keypoints = rows[chosen, first:].reshape(-1, points // 3, 3)
    return Found(all_boxes[chosen], scores[chosen], keypoints[..., :2], keypoints[..., 2])


FAMILY = Family(
    sentence="One-stage pose: YOLOv8, YOLO11 and YOLO26 pose, exported by Ultralytics, raw or with NMS.",
    layouts=(
        "images float32 (1, 3, 640, 640) -> output0 float32 (1, 56, 8400)",
        "images float32 (1, 3, 640, 640) -> output0 float32 (1, 300, 57)",
    ),
    options=Options,
    make=make,
)
