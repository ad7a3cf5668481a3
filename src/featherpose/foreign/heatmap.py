"""Top-down networks with one heatmap per keypoint: mmpose, HRNet, ViTPose, PP-TinyPose, Ultralight-SimplePose.

The first output of rank 4 is taken; PP-TinyPose's second output, the flat arg-max of each map, is not used. Decoding is
HRNet's (`get_final_preds`), DARK's or UDP's, as the codecs of featherpose do it, so that the file also gives heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Codec
from featherpose.crop import PADDING
from featherpose.errors import InputError
from featherpose.foreign.decode import decode
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
from featherpose.skeleton import COCO17

CODEC_OF = {"quarter": "msra", "dark": "dark", "udp": "udp"}


@dataclass(frozen=True)
class Options:
    """Options of the family."""

    channels: str = option("rgb", "Order of the color channels.", CHANNELS)
    mean: Triple = option(IMAGENET_MEAN, "Mean of red, green and blue, from 0 to 255.")
    std: Triple = option(IMAGENET_STD, "Standard deviation of red, green and blue, from 0 to 255.")
    decoding: str = option(
        "quarter", "quarter of a cell (HRNet), dark or udp; udp also crops as UDP does.", [*CODEC_OF]
    )
    kernel: int = option(11, "Width in cells of the filter of dark and udp: 11, 17 for 384x288, 3 for PP-TinyPose.")
    padding: float = option(PADDING, "Size of the crop relative to the box.")


def make(original: Original, options: Options, request: Request) -> PoseCandidate:
    """File with heatmaps -> candidate of kind pose."""
    given = planar_input(original)
    size = input_size(original, request, 2, 3)
    normalization = Normalization(options.channels, options.mean, options.std)
    outputs = original.run_on_black((1, 3, *size.shape))
    maps = {name: value.shape for name, value in outputs.items() if value.ndim == 4}
    if not maps:
        raise misfit(original, "wanted an output (batch, K, h, w), one heatmap for each keypoint.")
    name, (_, keypoints, height, width) = next(iter(maps.items()))
    stride = size.width // width
    if (height * stride, width * stride) != size.shape:
        raise misfit(original, f"heatmaps of {height}x{width} cells do not cover an input of {size}.")
    if options.kernel < 3 or options.kernel % 2 == 0:
        raise InputError(f"kernel is {options.kernel}, wanted an odd number of cells from 3.")
    # The inverse of OpenCV's rule, by which a codec chooses its kernel.
    sigma = round(0.3 * ((options.kernel - 1) / 2 - 1) + 0.8, 2)
    codec_name = CODEC_OF[options.decoding]
    manifest = PoseManifest(
        **request.facts,
        skeleton=skeleton_of(request, keypoints, COCO17, original),
        input_size=size,
        codec={"name": codec_name, "stride": stride, "sigma": sigma},
        crop_mode=CODECS[codec_name].crop_mode,
        padding=options.padding,
        antialias=False,
    )
    decoder = manifest.make_codec()

    def build(nodes: Nodes, crops: str) -> None:
        normalization.nodes(nodes, original, crops)
        decode(nodes, decoder, original_output(nodes, original, name), keypoints)

    def published(crop: Pixels) -> tuple[Array, Array]:
        return published_decoding(decoder, original.run({given: normalization.published(crop)})[name])

    return PoseCandidate(wrap_crops(original, size, manifest.sizes, build), manifest, published)


def published_decoding(codec: Codec, heatmaps: Any) -> tuple[Array, Array]:
    """Heatmaps (1, K, h, w) of any float type -> keypoints (K, 2) in crop pixels and scores (K,)."""
    keypoints, scores = codec.decode(heatmaps[0].astype(np.float32))
    return keypoints, scores


FAMILY = Family(
    sentence="Top-down, one heatmap per keypoint: mmpose, HRNet, ViTPose, PP-TinyPose, Ultralight-SimplePose.",
    layouts=(
        "input float32 (batch, 3, 256, 192) -> output float32 (batch, 17, 64, 48)",
        "image float32 (1, 3, 256, 192) -> conv2d_441.tmp_1 float32 (1, 17, 64, 48), argmax_0.tmp_0 int64 (1, 17)",
    ),
    options=Options,
    make=make,
)
