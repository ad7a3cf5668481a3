"""RTMDet, with NMS in the file or cut before it; and OpenMMLab's YOLOX with NMS, by mean 0 and std 1.

The published run is rtmlib's. With NMS (mmdeploy): rows of left, top, right, bottom, score, and labels; the row of
zeros that mmdeploy appends has score 0 and is dropped. Without: six maps (class logits of three strides, then
distances), or three maps with the class first; a cell's point is its top-left corner, distances are in pixels.
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


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("bgr", "Order of the color channels.", CHANNELS)
    mean: Triple = option(IMAGENET_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(IMAGENET_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    person: int = option(0, "Label of persons.")
    conf: float = option(0.3, "Boxes with a lower score are left out, unless the user says otherwise.")
    iou: float = option(0.6, "NMS threshold, for a file without NMS.")


@dataclass(frozen=True)
class Level:
    """Names of the maps of one stride: logits of the classes and distances; `joined`: one map (1, h, w, C + 4)."""

    logits: str
    distances: str
    cells: int
    joined: bool


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with `dets` and `labels`, or with the maps of three strides -> candidate of kind detector."""
    given = planar_input(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    shapes = {name: value.shape for name, value in original.run_on_black((1, 3, side, side)).items()}
    ranks = [len(shape) for shape in shapes.values()]
    rows = next((name for name, shape in shapes.items() if len(shape) == 3 and shape[2] == 5), None)
    labels = next((name for name, shape in shapes.items() if len(shape) == 2), None)
    if rows is not None and labels is not None:
        levels: list[Level] = []
    elif ranks in ([4] * 6, [4] * 3):
        levels = _levels(original, shapes)
    else:
        raise misfit(original, "wanted outputs (batch, n, 5) and (batch, n), or six or three maps.")

    def build(nodes: Nodes, image: str) -> None:
        normalization.nodes(nodes, original, image)
        if levels:
            _build_from_maps(nodes, original, levels, side, options)
        else:
            _build_from_rows(nodes, original, str(rows), str(labels), options.person)

    def published(canvas: Pixels) -> Found:
        outputs = original.run({given: normalization.published(canvas)})
        if levels:
            return _published_from_maps(outputs, levels, side, options)
        return published_from_rows(outputs[str(rows)][0], outputs[str(labels)][0], options.person)

    manifest = DetectorManifest(**request.facts, long_side=side, conf=options.conf, letterbox=placing.TOP_LEFT)
    model = wrap_image(original, DETECTOR, side, {}, build)
    return ImageCandidate(model, manifest, lambda image: placing.top_left(image, side), published)


def _build_from_rows(nodes: Nodes, original: Original, rows: str, labels: str, person: int) -> None:
    """Rows (1, n, 5) and labels (1, n) -> the outputs of a detector."""
    table = nodes.reshape(original_output(nodes, original, rows), -1, 5)
    confidence = nodes.reshape(nodes.columns(table, 4, 5, 1), -1)
    of_rows = nodes.reshape(original_output(nodes, original, labels, np.int64), -1)
    box_nodes = BoxNodes(nodes)
    scores = box_nodes.of_label(confidence, of_rows, person, np.int64)
    kept = box_nodes.kept(scores)
    box_nodes.give_detections(nodes.columns(table, 0, 4, 1), scores, kept)


def published_from_rows(rows: Array, labels: NDArray[Any], person: int) -> Found:
    """Rows (n, 5) and labels (n,) -> persons in input pixels, as rtmlib."""
    table = rows.astype(np.float32)
    chosen = boxes.kept(np.where(labels == person, table[:, 4], 0))
    return Found.of_boxes(table[chosen, :4], table[chosen, 4])


def _levels(original: Original, shapes: Mapping[str, tuple[int, ...]]) -> list[Level]:
    """Shapes of the maps -> the levels, finest first; ModelError where they do not pair up."""
    names = list(shapes)
    if len(names) == 3:
        found = [Level(name, name, shapes[name][1], True) for name in names]
    else:
        found = [Level(a, b, shapes[a][2], False) for a, b in zip(names[:3], names[3:], strict=True)]
    for level in found:
        shape = shapes[level.distances]
        square = shape[1] == shape[2] if level.joined else shape[1] == 4 and shapes[level.logits][2:] == shape[2:]
        if not square:
            raise misfit(original, "wanted class logits of three strides, then distances (batch, 4, h, w).")
    return found


def _build_from_maps(nodes: Nodes, original: Original, levels: list[Level], side: int, options: Options) -> None:
    """The maps of each stride -> the outputs of a detector, after NMS."""
    logits: list[str] = []
    distances: list[str] = []
    for level in levels:
        if level.joined:
            table = original_output(nodes, original, level.logits)  # (1, h, w, C + 4)
            logits.append(nodes.reshape(nodes.columns(table, options.person, options.person + 1, 3), -1))
            distances.append(nodes.reshape(nodes.columns(table, -4, _END, 3), -1, 4))
        else:
            planes = original_output(nodes, original, level.logits)  # (1, C, h, w)
            logits.append(nodes.reshape(nodes.columns(planes, options.person, options.person + 1, 1), -1))
            sides = original_output(nodes, original, level.distances)
            distances.append(nodes.reshape(nodes.add("Transpose", sides, perm=[0, 2, 3, 1]), -1, 4))
    scores = nodes.add("Sigmoid", nodes.add("Concat", *logits, axis=0))
    offsets = nodes.add("Concat", *distances, axis=0)
    points = nodes.constant("points", _points(levels, side))
    box_nodes = BoxNodes(nodes)
    all_boxes = box_nodes.around(points, offsets)
    chosen = box_nodes.suppressed(all_boxes, scores, options.iou)
    box_nodes.give_detections(all_boxes, scores, chosen)


def _published_from_maps(
    outputs: Mapping[str, NDArray[Any]], levels: list[Level], side: int, options: Options
) -> Found:
    """The same in numpy, as mmdet."""
    logits: list[Array] = []
    distances: list[Array] = []
    for level in levels:
        classes = outputs[level.logits][0].astype(np.float32)
        sides = outputs[level.distances][0].astype(np.float32)
        if not level.joined:
            classes = classes.transpose(1, 2, 0)
            sides = sides.transpose(1, 2, 0)
        logits.append(classes[..., options.person].ravel())
        distances.append(sides[..., -4:].reshape(-1, 4))
    scores = boxes.sigmoid(np.concatenate(logits))
    offsets = np.concatenate(distances)
    all_boxes = boxes.around(_points(levels, side), offsets)
    chosen = boxes.suppressed(all_boxes, scores, options.iou)
    return Found.of_boxes(all_boxes[chosen], scores[chosen])


def _points(levels: list[Level], side: int) -> Array:
    """(P, 2) x, y of all cells' points, finest level first."""
    return np.concatenate([boxes.cell_corners(side, side // level.cells) for level in levels])


_END = 2**31 - 1  # of an axis, whatever its length

FAMILY = Family(
    sentence="Person detector RTMDet, with NMS in the file or without; OpenMMLab's YOLOX with NMS.",
    layouts=(
        "input float32 (batch, 3, height, width) -> dets float32 (batch, n, 5), labels int64 (batch, n)",
        "input float32 (1, 3, 640, 640) -> c0 float32 (1, 1, 80, 80), c1 float32 (1, 1, 40, 40), "
        "c2 float32 (1, 1, 20, 20), d0 float32 (1, 4, 80, 80), d1 float32 (1, 4, 40, 40), "
        "d2 float32 (1, 4, 20, 20)",
        "images float32 (1, 3, 320, 320) -> a float32 (1, 40, 40, 5), b float32 (1, 20, 20, 5), "
        "c float32 (1, 10, 10, 5)",
    ),
    options=Options,
    make=make,
)
