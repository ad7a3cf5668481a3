"""Augmentation of whole images with all their people: scale, position, flip, color, mosaic; and plain letterboxing.

All geometric changes of an image are combined into one `Crop` and one warp, and boxes and keypoints are transformed by
the same matrix. All random draws come from the generator that is passed in (`sample_generator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.codecs.boxes import IGNORED, PERSON
from featherpose.crop import Crop
from featherpose.data.color import ColorAugmentation, happens, jitter_color
from featherpose.data.scene import Scene
from featherpose.errors import RecipeError
from featherpose.letterbox import BORDER, Letterbox
from featherpose.size import Size
from featherpose.skeleton import COCO17

Image = NDArray[np.uint8]

MIN_SIDE = 4
"""A person whose box is narrower or lower than this many input pixels is ignored."""
MOSAIC_CENTER = (0.3, 0.7)
"""Range of the point where the four images of a mosaic meet, as a fraction of the input's sides."""


@dataclass(frozen=True)
class SceneAugmentation(ColorAugmentation):
    """Strength of each augmentation of a whole image."""

    flip_prob: float = 0.5
    """Probability of a horizontal flip (left and right keypoints are swapped)."""
    scale: tuple[float, float] = (0.7, 2.0)
    """Range of the factor by which the image, fitted into the input, is enlarged; its logarithm is drawn uniformly."""
    shift: float = 1.0
    """Position: 1 draws it uniformly so that the image covers the input or lies inside it, 0 centers the image."""
    min_visible: float = 0.25
    """A person of whose box less than this fraction remains is ignored: neither found nor missed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"scale is {self.scale}; wanted (smallest, largest) factor above 0, like (0.7, 2.0).")
        for name in ("shift", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; wanted a fraction from 0 to 1.")

    @classmethod
    def none(cls) -> SceneAugmentation:
        """No augmentation: the image fitted into the input, in its middle."""
        return cls(**cls.never(), scale=(1.0, 1.0), shift=0.0)


@dataclass(frozen=True, eq=False)
class SceneLabels:
    """Labels of the M people in one image, in its pixels: corners of boxes are points, like keypoints."""

    boxes_xyxy: NDArray[np.float32]  # (M, 4)
    kinds: NDArray[np.int8]  # (M,) PERSON or IGNORED
    keypoints: NDArray[np.float32]  # (M, 17, 2), COCO's order
    visibility: NDArray[np.uint8]  # (M, 17) 0 not labeled, 1 labeled but hidden, 2 visible
    areas: NDArray[np.float32]  # (M,) of the whole person's outline in square pixels

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    def of(cls, scene: Scene, factors: ArrayLike = (1.0, 1.0)) -> SceneLabels:
        """Scene and cached pixels per stored pixel in x and y (`Crops.factors`) -> labels in pixels of the cache."""
        scaling = np.asarray(factors, np.float64)
        # As in Crops.to_cache: the corner of the top-left pixel, (-0.5, -0.5), stays where it is.
        matrix = np.column_stack([np.diag(scaling), 0.5 * scaling - 0.5])
        stored = cls(xywh_to_xyxy(scene.boxes_xywh), scene.kinds, scene.keypoints, scene.visibility, scene.areas)
        return stored.transformed(matrix)

    @classmethod
    def joined(cls, parts: Sequence[SceneLabels]) -> SceneLabels:
        """The labels of several parts of an image, at least one, as one."""
        return cls(
            np.concatenate([part.boxes_xyxy for part in parts]),
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([part.keypoints for part in parts]),
            np.concatenate([part.visibility for part in parts]),
            np.concatenate([part.areas for part in parts]),
        )

    def transformed(self, matrix: ArrayLike) -> SceneLabels:
        """Affine matrix (2, 3) that scales, moves or flips, but does not rotate -> labels in the new pixels.

        A flip (negative scale in x) swaps left and right keypoints.
        """
        affine = np.asarray(matrix, np.float64)
        scaling, offset = affine.diagonal(), affine[:, 2]
        corners = self.boxes_xyxy.reshape(-1, 2, 2) * scaling + offset
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        order = COCO17.flip_order if scaling[0] < 0 else slice(None)
        return replace(
            self,
            boxes_xyxy=boxes.astype(np.float32),
            keypoints=(self.keypoints * scaling + offset).astype(np.float32)[:, order],
            visibility=self.visibility[:, order],
            areas=(self.areas * abs(scaling.prod())).astype(np.float32),
        )

    def clipped(self, size: Size, min_visible: float) -> SceneLabels:
        """Size of the input -> the labels that are inside, boxes clipped to 0 .. width and 0 .. height.

        People of whose box less than `min_visible` remains, or less than 4 px in width or height, are ignored;
        keypoints outside the input become unlabeled.
        """
        boxes = np.clip(self.boxes_xyxy, 0, np.tile(size.xy, 2)).astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        whole = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        is_cut = sides.prod(axis=1) < min_visible * whole.prod(axis=1)
        is_tiny = sides.min(axis=1) < MIN_SIDE
        kinds = np.where((self.kinds == PERSON) & (is_cut | is_tiny), IGNORED, self.kinds).astype(np.int8)
        is_inside = ((self.keypoints >= -0.5) & (self.keypoints < np.subtract(size.xy, 0.5))).all(axis=2)
        kept = (sides > 0).all(axis=1)
        return SceneLabels(
            boxes[kept],
            kinds[kept],
            self.keypoints[kept],
            np.where(is_inside, self.visibility, 0).astype(np.uint8)[kept],
            self.areas[kept],
        )


def place(image_size: Size, size: Size, settings: SceneAugmentation, rng: np.random.Generator) -> Crop:
    """Sizes of an image and of the input -> the crop that shows the image randomly scaled, moved and flipped."""
    fit = min(size.width / image_size.width, size.height / image_size.height)
    factor = fit * float(np.exp(rng.uniform(*np.log(settings.scale))))
    free = np.subtract(size.xy, np.multiply(image_size.xy, factor))  # negative where the image covers the input
    left_top = free * (0.5 + settings.shift * rng.uniform(-0.5, 0.5, 2))
    # A crop maps its center to size / 2; the image's corner, (-0.5, -0.5), shall be at left_top - 0.5.
    center = (np.divide(size.xy, 2) - left_top + 0.5) / factor - 0.5
    return Crop(
        center=(float(center[0]), float(center[1])),
        extent=(size.width / factor, size.height / factor),
        size=size,
        flip=happens(settings.flip_prob, rng),
    )


def augment_scene(
    pixels: Image, labels: SceneLabels, size: Size, settings: SceneAugmentation, rng: np.random.Generator
) -> tuple[Image, SceneLabels]:
    """RGB uint8 (h, w, 3) and its labels -> network input of `size`, uint8 (H, W, 3), labels in input pixels."""
    height, width = pixels.shape[:2]
    crop = place(Size(height=height, width=width), size, settings, rng)
    warped = images.warp(pixels, crop.matrix, crop.size, BORDER, antialias=True)
    moved = labels.transformed(crop.matrix).clipped(size, settings.min_visible)
    return jitter_color(warped, settings, rng), moved


def mosaic(
    scenes: Sequence[tuple[Image, SceneLabels]], size: Size, settings: SceneAugmentation, rng: np.random.Generator
) -> tuple[Image, SceneLabels]:
    """Four images with labels -> one network input of `size` in which they meet at a random point, and its labels.

    Each is augmented as in `augment_scene`, fitted into its quadrant (Bochkovskiy et al. 2020, YOLOv4, section 3.3).
    """
    canvas = np.empty((*size.shape, 3), np.uint8)
    middle = np.round(rng.uniform(*MOSAIC_CENTER, 2) * size.xy).astype(int)
    x, y = int(middle[0]), int(middle[1])
    corners = [(0, 0, x, y), (x, 0, size.width, y), (0, y, x, size.height), (x, y, size.width, size.height)]
    parts: list[SceneLabels] = []
    for (pixels, labels), (left, top, right, bottom) in zip(scenes, corners, strict=True):
        quadrant = Size(height=bottom - top, width=right - left)
        canvas[top:bottom, left:right], inside = augment_scene(pixels, labels, quadrant, settings, rng)
        parts.append(inside.transformed([[1, 0, left], [0, 1, top]]))
    return canvas, SceneLabels.joined(parts)


def letterbox(pixels: Image, labels: SceneLabels, long_side: int) -> tuple[Image, SceneLabels, float]:
    """RGB uint8 (h, w, 3) and its labels -> network input as at inference, labels in its pixels, input px per image px.

    The longer side is scaled to `long_side`; see `Letterbox`. No label is left out or ignored.
    """
    height, width = pixels.shape[:2]
    box = Letterbox.of(Size(height=height, width=width), long_side)
    return images.letterbox(pixels, box), labels.transformed(box.matrix), box.factor
