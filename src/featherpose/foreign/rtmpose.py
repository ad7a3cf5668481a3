"""RTMPose, RTMW, DWPose and other SimCC heads: two one-dimensional responses for each keypoint.

A keypoint is at the largest bin of each axis, divided by the split ratio (Li et al. 2022, "SimCC"); mmpose scores it
with the smaller of the two maxima, rtmlib with their mean. A keypoint with a score of at most 0 is at bin -1 of both
axes. RTMW's third output is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.crop import PADDING
from featherpose.foreign.family import (
    Array,
    Family,
    Pixels,
    PoseCandidate,
    Request,
    Triple,
    input_size,
    misfit,
    option,
    planar_input,
    skeleton_of,
)
from featherpose.foreign.graph import Nodes, original_output, wrap_crops
from featherpose.foreign.original import Original
from featherpose.foreign.pixels import CHANNELS, IMAGENET_MEAN, IMAGENET_STD, Normalization
from featherpose.manifest import PoseManifest
from featherpose.size import Size
from featherpose.skeleton import COCO17


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("rgb", "Order of the color channels; rtmlib feeds bgr.", CHANNELS)
    mean: Triple = option(IMAGENET_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(IMAGENET_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    split_ratio: float = option(2.0, "Bins for each pixel.")
    score: str = option("min", "Of the two maxima: min (mmpose) or mean (rtmlib).", ["min", "mean"])
    padding: float = option(PADDING, "Size of the crop relative to the box.")


def make(original: Original, options: Options, request: Request) -> PoseCandidate:
    """File with two responses -> candidate of kind pose."""
    given = planar_input(original)
    if len(original.outputs) < 2:
        raise misfit(original, "wanted two outputs, (batch, K, bins in x) and (batch, K, bins in y).")
    size = input_size(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    x_name, y_name = (value.name for value in original.outputs[:2])
    outputs = original.run_on_black((1, 3, *size.shape))
    keypoints = _keypoints(original, outputs[x_name].shape, outputs[y_name].shape, size, options.split_ratio)
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
        x = original_output(nodes, original, x_name)
        y = original_output(nodes, original, y_name)
        decode(nodes, x, y, keypoints, options)

    def published(crop: Pixels) -> tuple[Array, Array]:
        responses = original.run({given: normalization.published(crop)})
        return published_decoding(responses[x_name][0], responses[y_name][0], options)

    return PoseCandidate(wrap_crops(original, size, manifest.sizes, build), manifest, published)


def _keypoints(original: Original, x: tuple[int, ...], y: tuple[int, ...], size: Size, ratio: float) -> int:
    """Shapes of the two responses -> K; ModelError where their bins are not those of the input."""
    if len(x) != 3 or len(y) != 3 or x[1] != y[1]:
        raise misfit(original, f"wanted two outputs (batch, K, bins), not {x} and {y}.")
    if (x[2], y[2]) != (size.width * ratio, size.height * ratio):
        raise misfit(original, f"{x[2]} and {y[2]} bins in x and y do not fit {size} pixels and split_ratio {ratio:g}.")
    return x[1]


def decode(nodes: Nodes, x: str, y: str, keypoints: int, options: Options) -> None:
    """Responses (N, K, bins) of both axes -> the outputs `keypoints` (N, K, 2) in crop pixels and `scores` (N, K)."""
    bins = [nodes.add("ArgMax", response, axis=2, keepdims=1) for response in (x, y)]
    maxima = [nodes.maximum(response, 2) for response in (x, y)]
    score = nodes.add("Min" if options.score == "min" else "Mean", *maxima)  # (N, K, 1)
    nodes.reshape(score, 0, keypoints, output="scores")
    location = nodes.cast(nodes.add("Concat", *bins, axis=2), np.float32)  # (N, K, 2)
    positive = nodes.add("Greater", score, nodes.constant("zero", 0))
    found = nodes.add("Where", positive, location, nodes.constant("nowhere", -1))
    nodes.add("Div", found, nodes.constant("split_ratio", options.split_ratio), output="keypoints")


def published_decoding(x: Array, y: Array, options: Options) -> tuple[Array, Array]:
    """Responses (K, bins) of both axes -> keypoints (K, 2) in crop pixels and scores (K,), as mmpose and rtmlib."""
    maxima = np.stack([x.max(axis=1), y.max(axis=1)]).astype(np.float32)  # (2, K)
    scores = maxima.min(axis=0) if options.score == "min" else maxima.mean(axis=0)
    bins = np.stack([x.argmax(axis=1), y.argmax(axis=1)], axis=1).astype(np.float32)  # (K, 2)
    bins[scores <= 0] = -1
    return bins / np.float32(options.split_ratio), scores


FAMILY = Family(
    sentence="Top-down, two one-dimensional responses per keypoint (SimCC): RTMPose, RTMW, DWPose.",
    layouts=(
        "input float32 (batch, 3, 256, 192) -> simcc_x float32 (batch, 17, 384), simcc_y float32 (batch, 17, 512)",
    ),
    options=Options,
    make=make,
)
