"""From uint8 RGB pixels to the input of another project's network: channel order, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.foreign.family import Array, Pixels, Triple
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
        # Planes first: arithmetic on rows of three numbers takes ten times as long.
        value = nodes.add("Transpose", image, perm=[0, 3, 1, 2]) if self.planar else image
        if self.channels == "bgr":
            value = nodes.add("Gather", value, nodes.integers(2, 1, 0), axis=1 if self.planar else 3)
        value = nodes.cast(value, np.float32)
        mean, std = self._ordered()
        shape = (3, 1, 1) if self.planar else (3,)
        if mean.any():
            value = nodes.add("Sub", value, nodes.constant("mean", mean.reshape(shape)))
        if (std != 1).any():
            value = nodes.add("Div", value, nodes.constant("std", std.reshape(shape)))
        if len(original.inputs[0].shape) == 3:
            value = nodes.add("Gather", value, nodes.constant("first", 0, np.int64), axis=0)
        original_input(nodes, original, 0, value)

    def _ordered(self) -> tuple[Array, Array]:
        """Mean and standard deviation (3,) in the order of the channels."""
        step = -1 if self.channels == "bgr" else 1
        return np.array(self.mean[::step], np.float32), np.array(self.std[::step], np.float32)

    def published(self, image: Pixels) -> NDArray[Any]:
        """The same in numpy: uint8 (H, W, 3) RGB -> float32 (1, 3, H, W) or (1, H, W, 3)."""
        mean, std = self._ordered()
        ordered = image[..., ::-1] if self.channels == "bgr" else image
        # In float32, as the graph computes: the last digit can decide between two equal maxima.
        value = (ordered.astype(np.float32) - mean) / std
        return np.ascontiguousarray(value.transpose(2, 0, 1) if self.planar else value)[None]
