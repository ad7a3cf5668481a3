"""RTMO: boxes and keypoints in one stage, decoded and NMS applied inside.

The published run is rtmlib's, without its second NMS: the image at the top left of gray 114. (mmpose puts it into the
middle.) The row that mmdeploy appends is a row of one anchor with that anchor's own low score; it is kept as any other.
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
    skeleton_of,
    square_side,
)
from featherpose.foreign.graph import Nodes, original_output, wrap_image
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import CHANNELS, PLAIN_MEAN, PLAIN_STD, Normalization
from featherpose.kinds import POSES
from featherpose.manifest import PosesManifest
from featherpose.skeleton import COCO17


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("bgr", "Order of the color channels.", CHANNELS)
    mean: Triple = option(PLAIN_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(PLAIN_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    conf: float = option(0.3, "Persons with a lower score are left out, unless the user says otherwise.")


def make(original: Original, options: Options, request: Request) -> ImageCandidate:
    """File with `dets` and `keypoints` -> candidate of kind poses."""
    given = planar_input(original)
    side = square_side(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    outputs = original.run_on_black((1, 3, side, side))
    rows = next((name for name, value in outputs.items() if value.ndim == 3 and value.shape[2] == 5), None)
    points = next((name for name, value in outputs.items() if value.ndim == 4 and value.shape[3] == 3), None)
    if rows is None or points is None:
        raise misfit(original, "wanted outputs (batch, n, 5) and (batch, n, K, 3).")
    keypoints = outputs[points].shape[2]

    def build(nodes: Nodes, image: str) -> None:
        normalization.nodes(nodes, original, image)
        table = nodes.reshape(original_output(nodes, original, rows), -1, 5)
        scores = nodes.reshape(nodes.columns(table, 4, 5, 1), -1)
        box_nodes = BoxNodes(nodes)
        chosen = box_nodes.kept(scores)
        found = nodes.reshape(original_output(nodes, original, points), -1, keypoints, 3)
        box_nodes.give_poses(nodes.columns(table, 0, 4, 1), scores, found, keypoints, chosen)

    def published(canvas: Pixels) -> Found:
        outputs = original.run({given: normalization.published(canvas)})
        return published_decoding(outputs[rows][0].astype(np.float32), outputs[points][0].astype(np.float32))

    manifest = PosesManifest(
        **request.facts,
        skeleton=skeleton_of(request, keypoints, COCO17, original),
        long_side=side,
        conf=options.conf,
        letterbox=placing.TOP_LEFT,
    )
    model = wrap_image(original, POSES, side, manifest.sizes, build)
    return ImageCandidate(model, manifest, lambda image: placing.top_left(image, side), published)


def published_decoding(rows: Array, points: Array) -> Found:
    """Rows (n, 5) and keypoints (n, K, 3) -> persons in input pixels."""
    chosen = boxes.kept(rows[:, 4])
    return Found(rows[chosen, :4], rows[chosen, 4], points[chosen, :, :2], points[chosen, :, 2])


FAMILY = Family(
    sentence="One-stage pose RTMO.",
    layouts=("input float32 (batch, 3, 640, 640) -> dets float32 (batch, n, 5), keypoints float32 (batch, n, 17, 3)",),
    options=Options,
    make=make,
)
