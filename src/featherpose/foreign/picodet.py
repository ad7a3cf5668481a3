"""PP-PicoDet of PaddleDetection, with its post-processing in the file or without NMS.

With it: rows of class, score, left, top, right, bottom; the inputs beside the image, by which the file divides, are
those of an image as large as the input, so that rows are in input pixels. Without NMS: boxes in input pixels and scores
of the classes. The published run is that of PaddleDetection's evaluation: stretched bicubically, NMS of each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    one_image_at_a_time,
    option,
    square_side,
)
from featherpose.foreign.graph import Nodes, original_input, original_output, wrap_image
from featherpose.foreign.original import Original, Value
from featherpose.foreign.pixels import CHANNELS, IMAGENET_MEAN, IMAGENET_STD, Normalization
from featherpose.kinds import DETECTOR
from featherpose.manifest import DetectorManifest


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("rgb", "Order of the color channels; the onnxruntime demo feeds bgr.", CHANNELS)
    mean: Triple = option(IMAGENET_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(IMAGENET_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    person: int = option(0, "Label of persons.")
    conf: float = option(0.5, "Boxes with a lower score are left out, unless the user says otherwise.")
    iou: float = option(0.6, "NMS threshold, for a file without NMS.")


@dataclass(frozen=True)
class Names:
    """Names of the outputs: `rows`, or boxes and scores; `axis`: of the classes in the scores, from the end."""

    rows: str = ""
    boxes: str = ""
    scores: str = ""
    axis: int = 0


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with rows of class, score, box, or with boxes and scores -> candidate of kind detector."""
    first, *sizes = original.inputs
    if len(first.shape) != 4 or first.shape[1] != 3 or any(size.shape[1:] != (2,) for size in sizes):
        raise misfit(original, "wanted an input (1, 3, S, S), and beside it at most scale_factor and im_shape (1, 2).")
    one_image_at_a_time(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)

    def inputs_of(canvas: Pixels) -> dict[str, NDArray[Any]]:
        return {first.name: normalization.published(canvas), **{size.name: _said_of(size, side) for size in sizes}}

    shapes = {name: v.shape for name, v in original.run(inputs_of(np.zeros((side, side, 3), np.uint8))).items()}
    names = _names(original, shapes, options.person)

    def build(nodes: Nodes, image: str) -> None:
        for index, size in enumerate(sizes, 1):
            original_input(nodes, original, index, nodes.constant(f"size_{index}", _said_of(size, side)))
        normalization.nodes(nodes, original, image)
        if names.rows:
            _build_from_rows(nodes, original_output(nodes, original, names.rows), options.person)
        else:
            _build_from_boxes(nodes, original, names, options)

    def published(canvas: Pixels) -> Found:
        outputs = original.run(inputs_of(canvas))
        if names.rows:
            return published_from_rows(outputs[names.rows].astype(np.float32), options.person)
        scores = np.moveaxis(outputs[names.scores], names.axis, -1)
        classes = scores.reshape(-1, scores.shape[-1]).astype(np.float32)
        return published_from_boxes(outputs[names.boxes].reshape(-1, 4).astype(np.float32), classes, options)

    manifest = DetectorManifest(**request.facts, long_side=side, conf=options.conf, letterbox=placing.STRETCHED_CUBIC)
    model = wrap_image(original, DETECTOR, side, {}, build)
    return ImageCandidate(model, manifest, lambda image: placing.stretched_cubic(image, side), published)


def _said_of(size: Value, side: int) -> Array:
    """What an input beside the image is given: `im_shape` the sides of the input, `scale_factor` ones."""
    return np.full((1, 2), side if size.name == "im_shape" else 1, np.float32)


def _names(original: Original, shapes: Mapping[str, tuple[int, ...]], person: int) -> Names:
    """Shapes of the outputs -> what each is; ModelError for another set of outputs."""
    for name, shape in shapes.items():
        if len(shape) == 2 and shape[1] == 6:
            return Names(rows=name)
    box = next((name for name, shape in shapes.items() if len(shape) in (2, 3) and shape[-1] == 4), None)
    if box is not None:
        number = shapes[box][-2]
        for name, shape in shapes.items():
            if name == box or len(shape) not in (2, 3) or number not in shape[-2:]:
                continue
            # Classes before anchors, or behind them: the anchors are those of the boxes.
            axis = -2 if shape[-1] == number else -1
            if person < shape[axis]:
                return Names(boxes=box, scores=name, axis=axis)
    raise misfit(
        original, "wanted an output of rows (n, 6), or boxes (1, anchors, 4) and scores (1, classes, anchors)."
    )


def _build_from_rows(nodes: Nodes, rows: str, person: int) -> None:
    """Rows (n, 6) -> the outputs of a detector; without a person the file gives one row of class -1."""
    box_nodes = BoxNodes(nodes)
    scores = box_nodes.of_label(nodes.columns(rows, 1, 2, 1), nodes.columns(rows, 0, 1, 1), person)
    chosen = box_nodes.kept(scores)
    box_nodes.give_detections(nodes.columns(rows, 2, 6, 1), scores, chosen)


def published_from_rows(rows: Array, person: int) -> Found:
    """Rows (n, 6) -> persons in input pixels."""
    chosen = boxes.kept(np.where(rows[:, 0] == person, rows[:, 1], 0))
    return Found.of_boxes(rows[chosen, 2:], rows[chosen, 1])


def _build_from_boxes(nodes: Nodes, original: Original, names: Names, options: Options) -> None:
    """Boxes (1, P, 4) and scores (1, C, P), or (P, 4) and (P, C) -> the outputs of a detector, after NMS."""
    all_boxes = nodes.reshape(original_output(nodes, original, names.boxes), -1, 4)
    classes = original_output(nodes, original, names.scores)
    scores = nodes.reshape(nodes.columns(classes, options.person, options.person + 1, names.axis), -1)
    box_nodes = BoxNodes(nodes)
    chosen = box_nodes.suppressed(all_boxes, scores, options.iou)
    box_nodes.give_detections(all_boxes, scores, chosen)


def published_from_boxes(all_boxes: Array, classes: Array, options: Options) -> Found:
    """Boxes (P, 4) and scores (P, C) -> persons in input pixels, as Paddle's `multiclass_nms`."""
    scores = classes[:, options.person]
    chosen = boxes.suppressed(all_boxes, scores, options.iou)
    return Found.of_boxes(all_boxes[chosen], scores[chosen])


FAMILY = Family(
    sentence="Person detector PP-PicoDet of PaddleDetection, with post-processing in the file or without NMS.",
    layouts=(
        "image float32 (1, 3, 320, 320), scale_factor float32 (1, 2) -> "
        "multiclass_nms3_0.tmp_0 float32 (n, 6), multiclass_nms3_0.tmp_2 int32 (1)",
        "image float32 (1, 3, 320, 320) -> concat_8.tmp_0 float32 (1, 2125, 4), transpose_8.tmp_0 float32 (1, 1, 2125)",
    ),
    options=Options,
    make=make,
)
