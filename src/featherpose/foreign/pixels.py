"""From uint8 RGB pixels to the input of another project's network: channel order, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.foreign.family import Pixels, Triple
from featherpose.foreign.graph import Nodes, original_input
from featherpose.foreign.original import Original

CHANNELS = ("rgb", "bgr")
IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)
"""Of red, green and blue, gray levels from 0 to 255."""
PLAIN_MEAN: Triple = (0.0, 0.0, 0.0)
PLAIN_STD: Triple = (1.0, 1.0, 1.0)
UNIT_STD: Triple = (255.0, 255.0, 255.0)


@dataclass(frozen=True)
class Normalization:
    """(pixel - mean) / std of each color, in the order of `channels`; `planar`: (N, 3, H, W), else (N, H, W, 3).

    For a file that takes one image without a batch axis the graph leaves it out. `mean` and `std` are those of red,
    green and blue, in this order whatever the order of the channels.
    """

    channels: str
    mean: Triple
    std: Triple
    planar: bool = True

    def nodes(self, nodes: Nodes, original: Original, image: str) -> None:
        """Nodes from uint8 (N, H, W, 3) RGB to the first input of the original."""
        value = nodes.cast(image, np.float32)
        value = nodes.add("Sub", value, nodes.constant("mean", self.mean))
        value = nodes.add("Div", value, nodes.constant("std", self.std))
        if self.channels == "bgr":
            value = nodes.add("Gather", value, nodes.integers(2, 1, 0), axis=3)
        if self.planar:
            value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
        given = original.inputs[0].shape
        if len(given) == 3:
            value = nodes.add("Gather", value, nodes.constant("first", 0, np.int64), axis=0)
        original_input(nodes, original, 0, value)

    def published(self, image: Pixels) -> NDArray[Any]:
        """The same in numpy: uint8 (H, W, 3) RGB -> float32 (1, 3, H, W) or (1, H, W, 3)."""
        mean = self.mean[::-1] if self.channels == "bgr" else self.mean
        std = self.std[::-1] if self.channels == "bgr" else self.std
        ordered = image[..., ::-1] if self.channels == "bgr" else image
        # In float32, as the graph computes: the last digit can decide between two equal maxima.
        value = (ordered.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
        return np.ascontiguousarray(value.transpose(2, 0, 1) if self.planar else value)[None]
