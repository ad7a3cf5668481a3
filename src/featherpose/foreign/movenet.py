"""MoveNet, single pose: a square of pixels in, rows of y, x and score of 17 keypoints out, decoded inside.

Google feeds the whole image, scaled and padded to a square with black. The crop of featherpose shows the same region;
it interpolates with another rounding, at most one gray level apart, and half a pixel apart (docs/adopt.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.foreign.family import (
    Array,
    Family,
    Pixels,
    PoseCandidate,
    Request,
    Triple,
    input_size,
    misfit,
    one_image_at_a_time,
    option,
    skeleton_of,
)
from featherpose.foreign.graph import Nodes, original_output, wrap_crops
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import PLAIN_MEAN, PLAIN_STD, Normalization
from featherpose.manifest import PoseManifest
from featherpose.skeleton import COCO17


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    std: Triple = option(PLAIN_STD, "Divisor of red, green and blue: [255, 255, 255] for a file that takes 0 to 1.")
    padding: float = option(1.0, "Size of the crop relative to the box; 1 is the whole image, as published.")


def make(original: Original, options: Options, request: Request) -> PoseCandidate:
    """File with rows of y, x, score -> candidate of kind pose."""
    if len(original.inputs) != 1 or len(original.inputs[0].shape) != 4 or original.inputs[0].shape[3] != 3:
        raise misfit(original, "wanted one input (1, S, S, 3).")
    one_image_at_a_time(original)
    size = input_size(original, request, 1, 2)
    normalization = Normalization("rgb", PLAIN_MEAN, options.std, planar=False)
    given = original.inputs[0].name
    name = original.outputs[0].name
    shape = original.run_on_black((1, *size.shape, 3))[name].shape
    if len(original.outputs) != 1 or len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != 3:
        raise misfit(
            original, "wanted one output (1, 1, K, 3); files of several persons and raw heads are not covered."
        )
    keypoints = shape[2]
    manifest = PoseManifest(
        **request.facts,
        skeleton=skeleton_of(request, keypoints, COCO17, original),
        input_size=size,
        codec=None,
        padding=options.padding,
        antialias=False,
    )

    def build(nodes: Nodes, crops: str) -> None:
        normalization.nodes(nodes, original, crops)
        rows = nodes.reshape(original_output(nodes, original, name), -1, keypoints, 3)
        nodes.reshape(nodes.columns(rows, 2, 3, 2), -1, keypoints, output="scores")
        x_y = nodes.add("Gather", rows, nodes.integers(1, 0), axis=2)
        nodes.add("Mul", x_y, nodes.constant("sides", size.xy), output="keypoints")

    def published(crop: Pixels) -> tuple[Array, Array]:
        rows = original.run({given: normalization.published(crop)})[name][0, 0].astype(np.float32)
        return np.stack([rows[:, 1] * size.width, rows[:, 0] * size.height], axis=1), rows[:, 2]

    return PoseCandidate(wrap_crops(original, size, manifest.sizes, build), manifest, published)


FAMILY = Family(
    sentence="MoveNet Lightning and Thunder, single pose: the whole image or a square crop.",
    layouts=("input int32 (1, 192, 192, 3) -> output_0 float32 (1, 1, 17, 3)",),
    options=Options,
    make=make,
)
