"""Codecs: keypoints -> training targets (`encode`), network outputs -> keypoints (`decode`). Plain numpy."""

from featherpose.codecs.heatmap import Codec, Dark, Msra, Udp

CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (Msra, Dark, Udp)}
