"""NanoDet and NanoDet-Plus: class scores, and for each side of a box a distribution of its distance over eight bins.

A distance is the expectation of the distribution times the stride. NanoDet has strides 8, 16, 32, measured from the
centers of the cells, and two outputs for each or all in one; NanoDet-Plus has 64 as well, measured from the cells'
top-left corners, and one output. The published run is that of the Python code: boxes clipped to the input, NMS of each
class.
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
    option,
    planar_input,
    square_side,
)
from featherpose.foreign.graph import Nodes, original_output, wrap_image
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import CHANNELS, IMAGENET_MEAN, IMAGENET_STD, Normalization
from featherpose.kinds import DETECTOR
from featherpose.manifest import DetectorManifest

STRIDES = (8, 16, 32)
STRIDES_OF_PLUS = (8, 16, 32, 64)
BINS = 8
PLACES = {
    "center": (placing.CENTERED_IN_BLACK, placing.centered_in_black),
    "stretch": (placing.STRETCHED, placing.stretched),
}


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("bgr", "Order of the color channels.", CHANNELS)
    mean: Triple = option(IMAGENET_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(IMAGENET_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    resize: str = option(
        "auto",
        "How the image becomes a square: center of black, stretch; auto: center for NanoDet, stretch for NanoDet-Plus.",
        ["auto", *PLACES],
    )
    person: int = option(0, "Label of persons.")
    conf: float = option(0.4, "Boxes with a lower score are left out, unless the user says otherwise.")
    iou: float = option(0.6, "NMS threshold.")


@dataclass(frozen=True)
class Layout:
    """Names of the outputs of class scores and of distributions, finest first; the same ones where they are joined."""

    strides: tuple[int, ...]
    scores: tuple[str, ...]
    distributions: tuple[str, ...]
    classes: int

    @property
    def is_plus(self) -> bool:
        """Whether it is NanoDet-Plus."""
        return self.strides == STRIDES_OF_PLUS

    @property
    def joined(self) -> bool:
        """Whether one output holds both."""
        return self.scores == self.distributions

    def anchors(self, side: int) -> tuple[Array, Array]:
        """Side of the input -> (P, 2) points that distances are measured from, and the stride of each, (P, 1)."""
        points, strides = boxes.cells(side, self.strides)
        if not self.is_plus:
            points += strides / 2
        return points, strides


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with scores and distributions -> candidate of kind detector."""
    given = planar_input(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    shapes = {name: value.shape for name, value in original.run_on_black((1, 3, side, side)).items()}
    layout = _layout(original, shapes, side)
    if layout.classes <= options.person:
        raise misfit(original, f"its {layout.classes} classes have no label {options.person}.")

    def build(nodes: Nodes, image: str) -> None:
        normalization.nodes(nodes, original, image)
        _build(nodes, original, layout, side, options)

    def published(canvas: Pixels) -> Found:
        outputs = original.run({given: normalization.published(canvas)})
        return published_decoding(outputs, layout, side, options)

    resize = options.resize
    if resize == "auto":
        resize = "stretch" if layout.is_plus else "center"
    fit, place = PLACES[resize]
    manifest = DetectorManifest(**request.facts, long_side=side, conf=options.conf, letterbox=fit)
    model = wrap_image(original, DETECTOR, side, {}, build)
    return ImageCandidate(model, manifest, lambda image: place(image, side), published)


def _layout(original: Original, shapes: Mapping[str, tuple[int, ...]], side: int) -> Layout:
    """Shapes of the outputs -> which is which; ModelError for another set of outputs."""
    sides = 4 * BINS
    tables = {name: shape[-2:] for name, shape in shapes.items() if len(shape) in (2, 3)}
    for strides in (STRIDES, STRIDES_OF_PLUS):
        counts = [len(boxes.cell_corners(side, stride)) for stride in strides]
        joined = [name for name, (rows, columns) in tables.items() if rows == sum(counts) and columns > sides]
        if len(shapes) == len(joined) == 1:
            name = joined[0]
            return Layout(strides, (name,), (name,), tables[name][1] - sides)
        distributions = [name for n in counts for name, table in tables.items() if table == (n, sides)]
        scores = [name for n in counts for name, (rows, width) in tables.items() if rows == n and width != sides]
        if len(scores) == len(distributions) == len(counts) == len(shapes) / 2 and strides == STRIDES:
            return Layout(strides, tuple(scores), tuple(distributions), tables[scores[0]][1])
    raise misfit(
        original,
        f"wanted one output (1, anchors, classes + {sides}), or scores (anchors, classes) and distributions"
        f" (anchors, {sides}) of strides 8, 16 and 32.",
    )


def _build(nodes: Nodes, original: Original, layout: Layout, side: int, options: Options) -> None:
    """Scores and distributions -> the outputs of a detector, after NMS."""
    start = layout.classes if layout.joined else 0
    scores: list[str] = []
    distributions: list[str] = []
    for of_scores, of_sides in zip(layout.scores, layout.distributions, strict=True):
        table = original_output(nodes, original, of_scores)
        scores.append(nodes.reshape(nodes.columns(table, options.person, options.person + 1, -1), -1))
        table = original_output(nodes, original, of_sides)
        distributions.append(nodes.reshape(nodes.columns(table, start, start + 4 * BINS, -1), -1, 4, BINS))
    confidence = nodes.add("Concat", *scores, axis=0)
    probabilities = nodes.add("Softmax", nodes.add("Concat", *distributions, axis=0), axis=-1)
    points, strides = layout.anchors(side)
    expectation = nodes.add("MatMul", probabilities, nodes.constant("bins", np.arange(BINS)))  # (P, 4)
    distances = nodes.add("Mul", expectation, nodes.constant("strides", strides))
    box_nodes = BoxNodes(nodes)
    all_boxes = box_nodes.around(nodes.constant("points", points), distances)
    all_boxes = nodes.add("Clip", all_boxes, nodes.constant("start", 0), nodes.constant("side", side))
    chosen = box_nodes.suppressed(all_boxes, confidence, options.iou)
    box_nodes.give_detections(all_boxes, confidence, chosen)


def published_decoding(outputs: Mapping[str, NDArray[Any]], layout: Layout, side: int, options: Options) -> Found:
    """Outputs by name -> persons in input pixels, as `get_bboxes` of NanoDet's heads."""
    scores = np.concatenate([_table(outputs[name])[:, options.person] for name in layout.scores])
    logits = np.concatenate([_table(outputs[name])[:, -4 * BINS :] for name in layout.distributions])
    exponentials = np.exp(logits.reshape(-1, 4, BINS) - logits.reshape(-1, 4, BINS).max(axis=2, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=2, keepdims=True)
    points, strides = layout.anchors(side)
    distances = (probabilities @ np.arange(BINS, dtype=np.float32)) * strides
    all_boxes = np.clip(boxes.around(points, distances), 0, side)
    chosen = boxes.suppressed(all_boxes, scores, options.iou)
    return Found.of_boxes(all_boxes[chosen], scores[chosen])


def _table(output: NDArray[Any]) -> Array:
    """(1, P, n) or (P, n) -> float32 (P, n)."""
    return output.reshape(-1, output.shape[-1]).astype(np.float32)


FAMILY = Family(
    sentence="Person detectors NanoDet and NanoDet-Plus.",
    layouts=(
        "data float32 (1, 3, 320, 320) -> output float32 (1, 2125, 112)",
        "input.1 float32 (1, 3, 320, 320) -> cls_pred_stride_8 float32 (1, 1600, 80), "
        "cls_pred_stride_16 float32 (1, 400, 80), cls_pred_stride_32 float32 (1, 100, 80), "
        "dis_pred_stride_8 float32 (1, 1600, 32), dis_pred_stride_16 float32 (1, 400, 32), "
        "dis_pred_stride_32 float32 (1, 100, 32)",
    ),
    options=Options,
    make=make,
)
