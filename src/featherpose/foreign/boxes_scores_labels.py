"""Detectors with outputs boxes, scores and labels (torchvision, RT-DETR), or boxes and class logits (RF-DETR).

torchvision takes one image (3, H, W) and scales it inside; RT-DETR's deployed files take the size (w, h) of the image
as well, here that of the input. RF-DETR and the DETRs of transformers give center and sides from 0 to 1, and logits:
sigmoid, then the best Q of all pairs of query and class. Outputs are matched by name, type and shape, not by order.
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
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import CHANNELS, PLAIN_MEAN, UNIT_STD, Normalization
from featherpose.kinds import DETECTOR
from featherpose.manifest import DetectorManifest

PLACES = {"stretch": (placing.STRETCHED, placing.stretched), "letterbox": (placing.TOP_LEFT, placing.top_left)}


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    person: int = option(1, "Label of persons: 1 for torchvision, DETR and RF-DETR, 0 for RT-DETR and D-FINE.")
    channels: str = option("rgb", "Order of the color channels.", CHANNELS)
    mean: Triple = option(PLAIN_MEAN, "Mean of red, green and blue, from 0 to 255; RF-DETR: [123.675, 116.28, 103.53].")
    std: Triple = option(UNIT_STD, "Standard deviation of the three, from 0 to 255; RF-DETR: [58.395, 57.12, 57.375].")
    resize: str = option("stretch", "How the image becomes a square: stretch, or letterbox at the top left.", [*PLACES])
    conf: float = option(0.3, "Boxes with a lower score are left out, unless the user says otherwise.")


@dataclass(frozen=True)
class Names:
    """Names of the outputs: boxes, and scores and labels, or logits."""

    boxes: str
    scores: str = ""
    labels: str = ""
    logits: str = ""


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with boxes, scores and labels, or boxes and logits -> candidate of kind detector."""
    first = original.inputs[0]
    if len(first.shape) not in (3, 4) or first.shape[-3] != 3 or len(original.inputs) > 2:
        raise misfit(original, "wanted an input (3, H, W) or (batch, 3, S, S), and at most the image size beside it.")
    single = len(first.shape) == 3
    if not single:
        one_image_at_a_time(original)
    side = square_side(original, request, -2, -1)
    normalization = Normalization(options.channels, options.mean, options.std)

    def inputs_of(canvas: Pixels) -> dict[str, NDArray[Any]]:
        pixels = normalization.published(canvas)
        inputs: dict[str, NDArray[Any]] = {first.name: pixels[0] if single else pixels}
        for size in original.inputs[1:]:
            inputs[size.name] = np.array([[side, side]])
        return inputs

    outputs = original.run(inputs_of(np.zeros((side, side, 3), np.uint8)))
    names = _names(original, outputs)

    def build(nodes: Nodes, image: str) -> None:
        for index in range(1, len(original.inputs)):
            original_input(nodes, original, index, nodes.constant("image_size", [[side, side]], np.int64))
        normalization.nodes(nodes, original, image)
        if names.logits:
            _build_from_logits(nodes, original, names, outputs[names.logits].shape, side, options.person)
        else:
            _build_from_labels(nodes, original, names, options.person)

    def published(canvas: Pixels) -> Found:
        found = original.run(inputs_of(canvas))
        if names.logits:
            return published_from_logits(found[names.boxes][0], found[names.logits][0], side, options.person)
        return _published_from_labels(found, names, options.person)

    fit, place = PLACES[options.resize]
    manifest = DetectorManifest(**request.facts, long_side=side, conf=options.conf, letterbox=fit)
    model = wrap_image(original, DETECTOR, side, {}, build)
    return ImageCandidate(model, manifest, lambda image: place(image, side), published)


def _names(original: Original, outputs: Mapping[str, NDArray[Any]]) -> Names:
    """Outputs of a run -> what each is; ModelError for another set of outputs."""
    whole = [name for name, value in outputs.items() if value.dtype.kind in "iu"]
    fours = [name for name, value in outputs.items() if name not in whole and value.ndim > 1 and value.shape[-1] == 4]
    named = [name for name in fours if "box" in name or "det" in name]
    box = (named or fours or [""])[0]
    rest = [name for name, value in outputs.items() if name not in (box, *whole) and value.dtype.kind == "f"]
    ranked = [name for name in rest if outputs[name].ndim == outputs[box].ndim - 1] if box else []
    logits = [name for name in rest if outputs[name].ndim == 3] if box and outputs[box].ndim == 3 else []
    if box and whole and ranked:
        return Names(box, scores=ranked[0], labels=whole[0])
    if box and logits:
        return Names(box, logits=logits[0])
    raise misfit(original, "wanted outputs boxes (n, 4), scores (n) and labels (n), or boxes (1, Q, 4) and logits.")


def _build_from_labels(nodes: Nodes, original: Original, names: Names, person: int) -> None:
    """Boxes, scores and labels -> the outputs of a detector."""
    labels = nodes.reshape(original_output(nodes, original, names.labels, np.int64), -1)
    confidence = nodes.reshape(original_output(nodes, original, names.scores), -1)
    box_nodes = BoxNodes(nodes)
    scores = box_nodes.of_label(confidence, labels, person, np.int64)
    chosen = box_nodes.kept(scores)
    box_nodes.give_detections(nodes.reshape(original_output(nodes, original, names.boxes), -1, 4), scores, chosen)


def _published_from_labels(outputs: Mapping[str, NDArray[Any]], names: Names, person: int) -> Found:
    """The same in numpy."""
    scores = outputs[names.scores].ravel().astype(np.float32)
    chosen = boxes.kept(np.where(outputs[names.labels].ravel() == person, scores, 0))
    return Found.of_boxes(outputs[names.boxes].reshape(-1, 4)[chosen].astype(np.float32), scores[chosen])


def _build_from_logits(
    nodes: Nodes, original: Original, names: Names, shape: tuple[int, ...], side: int, person: int
) -> None:
    """Boxes (1, Q, 4) and logits (1, Q, C) -> the outputs of a detector."""
    queries, classes = shape[1:]
    probabilities = nodes.reshape(nodes.add("Sigmoid", original_output(nodes, original, names.logits)), -1)
    best = f"best_{queries}"
    pairs = f"pairs_{queries}"
    nodes.add_several("TopK", [probabilities, nodes.integers(queries)], [best, pairs], axis=0)
    label = nodes.add("Mod", pairs, nodes.integers(classes))
    box_nodes = BoxNodes(nodes)
    scores = box_nodes.of_label(best, label, person, np.int64)
    table = nodes.reshape(original_output(nodes, original, names.boxes), -1, 4)
    table = nodes.add("Mul", table, nodes.constant("side", side))
    all_boxes = box_nodes.corners(nodes.columns(table, 0, 2, 1), nodes.columns(table, 2, 4, 1))
    of_pair = nodes.add("Gather", all_boxes, nodes.add("Div", pairs, nodes.integers(classes)), axis=0)
    chosen = box_nodes.kept(scores)
    box_nodes.give_detections(of_pair, scores, chosen)


def published_from_logits(centers_and_sides: NDArray[Any], logits: NDArray[Any], side: int, person: int) -> Found:
    """Boxes (Q, 4) from 0 to 1 and logits (Q, C) -> persons in input pixels, as RF-DETR's post-processing."""
    queries, classes = logits.shape
    probabilities = boxes.sigmoid(logits.astype(np.float32).ravel())
    pairs = np.argsort(-probabilities, kind="stable")[:queries]
    scores = np.where(pairs % classes == person, probabilities[pairs], np.float32(0))
    table = centers_and_sides.astype(np.float32)[pairs // classes] * side
    chosen = boxes.kept(scores)
    return Found.of_boxes(boxes.corners(table[chosen, :2], table[chosen, 2:]), scores[chosen])


FAMILY = Family(
    sentence="Detectors with boxes, scores and labels: torchvision, RT-DETR, D-FINE; with logits: RF-DETR.",
    layouts=(
        "image float32 (3, height, width) -> boxes float32 (n, 4), labels int64 (n), scores float32 (n)",
        "images float32 (N, 3, 640, 640), orig_target_sizes int64 (N, 2) -> labels int64 (N, 300), "
        "boxes float32 (N, 300, 4), scores float32 (N, 300)",
        "input float32 (1, 3, 512, 512) -> dets float32 (1, 300, 4), labels float32 (1, 300, 91)",
    ),
    options=Options,
    make=make,
)
