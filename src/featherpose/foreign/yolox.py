"""YOLOX, the files of its authors: one output of rows x, y, w, h, objectness and class scores, without NMS.

The published run is `postprocess` of YOLOX in torch: the best class of each row, then NMS of each class by plain areas.
(Its onnxruntime demo lets classes suppress each other and adds one pixel to sides, as rtmlib does.)
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
from featherpose.foreign.pixels import CHANNELS, PLAIN_MEAN, PLAIN_STD, Normalization
from featherpose.kinds import DETECTOR
from featherpose.manifest import DetectorManifest

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("bgr", "Order of the color channels.", CHANNELS)
    mean: Triple = option(PLAIN_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(PLAIN_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    decoded: bool = option(False, "Whether the file was exported with decode_in_inference: x, y, w, h in pixels.")
    person: int = option(0, "Label of persons.")
    conf: float = option(0.3, "Boxes with a lower score are left out, unless the user says otherwise.")
    iou: float = option(0.45, "NMS threshold.")


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with rows of 5 + C columns -> candidate of kind detector."""
    given = planar_input(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    name = original.outputs[0].name
    shape = original.run_on_black((1, 3, side, side))[name].shape
    number = sum((side // stride) ** 2 for stride in STRIDES)
    if len(shape) != 3 or shape[1] != number or shape[2] <= 5 + options.person:
        raise misfit(original, f"wanted an output (batch, {number}, 5 + classes) for an input of {side}x{side}.")

    def build(nodes: Nodes, image: str) -> None:
        normalization.nodes(nodes, original, image)
        table = nodes.reshape(original_output(nodes, original, name), -1, shape[2])
        _build(nodes, table, shape[2], side, options)

    def published(canvas: Pixels) -> Found:
        rows = original.run({given: normalization.published(canvas)})[name][0]
        return published_decoding(rows.astype(np.float32), side, options)

    manifest = DetectorManifest(**request.facts, long_side=side, conf=options.conf, letterbox=placing.TOP_LEFT)
    model = wrap_image(original, DETECTOR, side, {}, build)
    return ImageCandidate(model, manifest, lambda image: placing.top_left(image, side), published)


def _build(nodes: Nodes, table: str, width: int, side: int, options: Options) -> None:
    """Rows (P, 5 + C) -> the outputs of a detector, after NMS."""
    centers = nodes.columns(table, 0, 2, 1)
    sides = nodes.columns(table, 2, 4, 1)
    if not options.decoded:
        corners, strides = boxes.cells(side, STRIDES)
        of_cell = nodes.constant("strides", strides)
        moved = nodes.add("Mul", centers, of_cell)
        centers = nodes.add("Add", moved, nodes.constant("cell_corners", corners))
        sides = nodes.add("Mul", nodes.add("Exp", sides), of_cell)
    box_nodes = BoxNodes(nodes)
    all_boxes = box_nodes.corners(centers, sides)
    objectness = nodes.reshape(nodes.columns(table, 4, 5, 1), -1)
    classes = box_nodes.person_scores(nodes.columns(table, 5, width, 1), options.person)
    scores = nodes.add("Mul", objectness, classes)
    chosen = box_nodes.suppressed(all_boxes, scores, options.iou)
    box_nodes.give_detections(all_boxes, scores, chosen)


def published_decoding(rows: Array, side: int, options: Options) -> Found:
    """Rows (P, 5 + C) -> persons in input pixels, as YOLOX's `postprocess`."""
    centers = rows[:, :2]
    sides = rows[:, 2:4]
    if not options.decoded:
        corners, strides = boxes.cells(side, STRIDES)
        centers = centers * strides + corners
        sides = np.exp(sides) * strides
    scores = rows[:, 4] * boxes.person_scores(rows[:, 5:], options.person)
    all_boxes = boxes.corners(centers, sides)
    chosen = boxes.suppressed(all_boxes, scores, options.iou)
    return Found.of_boxes(all_boxes[chosen], scores[chosen])


FAMILY = Family(
    sentence="Person detector YOLOX, the files of its authors.",
    layouts=("images float32 (1, 3, 416, 416) -> output float32 (1, 3549, 85)",),
    options=Options,
    make=make,
)
