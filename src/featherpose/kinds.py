"""The kinds of exported models: the input and the outputs that the graph of each kind has."""

from collections.abc import Mapping
from dataclasses import dataclass

SIDE_MULTIPLE = 32
"""Both sides of an image that a graph takes whole are multiples of this many pixels."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph. The sides of `shape` are numbers or letters, which `sizes` gives values."""

    name: str
    dtype: str
    """As numpy names it."""
    shape: tuple[int | str, ...]
    optional: bool = False

    def shape_of(self, sizes: Mapping[str, int]) -> list[int | str]:
        """Values of some letters -> the shape with these in place of the letters."""
        return [sizes.get(side, side) if isinstance(side, str) else side for side in self.shape]


@dataclass(frozen=True)
class Kind:
    """What the graphs of one kind of model take and give.

    N: crops; H, W: sides of the input; K: keypoints; M: persons found; C: channels; h, w: sides of a map in cells.
    """

    name: str
    input: Tensor
    outputs: tuple[Tensor, ...]
    per_engine: tuple[str, ...]
    """Letters of the input that an inference engine is opened for: it is slow where they are free."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(output.name for output in self.outputs)


_IMAGE = Tensor("image", "uint8", (1, "H", "W", 3))

POSE = Kind(
    "pose",
    Tensor("crops", "uint8", ("N", "H", "W", 3)),
    (
        Tensor("keypoints", "float32", ("N", "K", 2)),
        Tensor("scores", "float32", ("N", "K")),
        Tensor("heatmaps", "float32", ("N", "K", "h", "w"), optional=True),
    ),
    per_engine=("N",),
)
"""Keypoints of one person in each crop, in crop pixels; heatmaps where the codec has them."""

DETECTOR = Kind(
    "detector",
    _IMAGE,
    (Tensor("boxes_xyxy", "float32", ("M", 4)), Tensor("scores", "float32", ("M",))),
    per_engine=("H", "W"),
)
"""Boxes of all persons in an image, in input pixels, duplicates suppressed."""

POSES = Kind(
    "poses",
    _IMAGE,
    (
        Tensor("boxes_xyxy", "float32", ("M", 4)),
        Tensor("box_scores", "float32", ("M",)),
        Tensor("keypoints", "float32", ("M", "K", 2)),
        Tensor("scores", "float32", ("M", "K")),
    ),
    per_engine=("H", "W"),
)
"""Boxes and keypoints of all persons in an image in one stage, in input pixels, duplicates suppressed."""

BOTTOM_UP = Kind("bottom_up", _IMAGE, (), per_engine=("H", "W"))
"""Maps of an image, from which a grouping codec makes poses; the codec in the manifest names the maps."""

KINDS = {kind.name: kind for kind in (POSE, DETECTOR, POSES, BOTTOM_UP)}
"""Kind of model -> its input and outputs."""


def grouping_map(name: str) -> Tensor:
    """Name of a map that a grouping codec takes -> the output of a bottom_up graph."""
    return Tensor(name, "float32", (1, "C", "h", "w"))
