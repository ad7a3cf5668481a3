"""Augmentation of one training sample: rotation, scale, shift, flip, color jitter, blur, noise, occlusion.

All geometric changes are combined into one `Crop` and one warp, and keypoints are transformed by the same matrix. All
random draws come from the generator that is passed in (`sample_generator`): the same generator gives the same crop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.crop import PADDING, Crop
from featherpose.data.color import ColorAugmentation, happens, jitter_color
from featherpose.errors import RecipeError
from featherpose.keypoint_names import standard_names
from featherpose.size import Size
from featherpose.skeleton import Skeleton

Image = NDArray[np.uint8]
Label = TypeVar("Label", bound=np.number[Any])

UPPER_HALF_PROB = 0.69
"""HRNet takes the upper half where a standard normal draw is below 0.5."""

_LOWER = ("hip", "pelvis", "knee", "ankle", "heel", "toe")
_HALF_BODY_SCALE = 1.5  # of the keypoints' bounds: heads and feet extend beyond their keypoints


@dataclass(frozen=True)
class PersonGeometry:
    """Which region of the image the crop shows; a class of its own because these fields come first in a recipe.

    `scale` and `shift` cover the errors of a detector's boxes (Fang et al. 2017 draw such errors for training): once a
    box with errors on its four sides is extended to the input's aspect ratio, only size and center of the region
    differ. Over COCO's persons, normal errors of 0.1 of a box's sides (`boxes.jitter_boxes`) spread the size by 13 %
    and the center by 4 and 5 % of the region, these defaults by 14 and 5 %; errors twice as large need about scale
    (0.6, 1.5), shift 0.16.
    """

    flip_prob: float = 0.5
    """Probability of a horizontal flip (left and right keypoints are swapped)."""
    scale: tuple[float, float] = (0.75, 1.25)
    """Range of the factor by which the region is enlarged: below 1 the person gets larger."""
    scale_sigma: float = 0.0
    """Above 0, that factor is normal around 1 with this deviation, clipped to `scale` (HRNet: 0.35); 0: uniform."""
    shift: float = 0.08
    """Largest shift of the region, as a fraction of its width and height."""
    rotation_prob: float = 0.6
    """Probability of a rotation."""
    rotation: float = 40.0
    """Largest rotation in degrees, either way; drawn from a clipped normal, sigma half of this (HRNet's 45: 90)."""
    half_body_prob: float = 0.3
    """Probability of a half-body crop (upper or lower body), as HRNet has it, for persons with enough keypoints."""
    half_body_keypoints: int = 8
    """A half-body crop needs more labeled keypoints than this."""


@dataclass(frozen=True)
class Augmentation(ColorAugmentation, PersonGeometry):
    """Strength of each augmentation. `*_prob` are probabilities; values are drawn uniformly from ranges."""

    occlusion_prob: float = 0.25
    """Probability of an occlusion by a rectangle of one color; keypoints under it stay labeled."""
    occlusion: tuple[float, float] = (0.1, 0.4)
    """Range of the sides of that rectangle, as a fraction of the crop's sides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"scale is {self.scale}; wanted (smallest, largest) factor above 0, like (0.75, 1.25).")
        if self.scale_sigma < 0:
            raise RecipeError(f"scale_sigma is {self.scale_sigma}; wanted a deviation above 0, or 0 for none.")
        if not 0 <= self.occlusion[0] <= self.occlusion[1] <= 1:
            raise RecipeError(f"occlusion is {self.occlusion}; wanted (smallest, largest) side from 0 to 1.")

    @classmethod
    def none(cls) -> Augmentation:
        """No augmentation: the plain crop, as in validation."""
        return cls(**cls.never(), scale=(1.0, 1.0), shift=0.0)


def augment(
    image: Image,
    keypoints: ArrayLike,
    visibility: NDArray[Label],
    box_xywh: ArrayLike,
    skeleton: Skeleton,
    size: Size,
    settings: Augmentation,
    rng: np.random.Generator,
    mode: str = "msra",
    padding: float = PADDING,
) -> tuple[Image, NDArray[np.float32], NDArray[Label]]:
    """RGB uint8 (h, w, 3), keypoints (..., K, 2), labeled (..., K) > 0, box (4,) -> augmented crop, keypoints, labeled.

    The crop has `size`. Keypoints and box are in image pixels; the keypoints returned are in crop
    pixels and may be outside the crop. `visibility` (or weights: anything above 0 is labeled) is returned in the order
    of the keypoints. With several sets of keypoints (T, K, 2), as of labels and teacher, the first one determines the
    half-body crop.
    """
    points = np.asarray(keypoints, np.float32)
    num_keypoints = skeleton.num_keypoints
    first = points.reshape(-1, num_keypoints, 2)[0], visibility.reshape(-1, num_keypoints)[0]
    half = _half_body(*first, skeleton, settings, rng)
    if half is None:
        plain = Crop.from_box(xywh_to_xyxy(np.asarray(box_xywh, np.float32)), size, mode, padding)
    else:
        plain = Crop.from_box(half, size, mode, padding=1.0)
    crop = _random_crop(plain, settings, rng)
    warped = images.warp(image, crop.matrix, crop.size)
    pixels = _occlude(jitter_color(warped, settings, rng), settings, rng)
    order = skeleton.flip_order if crop.flip else slice(None)
    return pixels, crop.to_crop(points)[..., order, :].astype(np.float32), visibility[..., order]


def _half_body(
    keypoints: NDArray[np.float32],
    visibility: NDArray[np.number[Any]],
    skeleton: Skeleton,
    settings: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.float32] | None:
    """Keypoints (K, 2) -> region (4,) xyxy of the upper or lower body (as HRNet's loader), or None: the whole body.

    The upper half is chosen with `UPPER_HALF_PROB`, a half with fewer than three keypoints only where the other one has
    no more. The region is 1.5 x the bounds of the half's keypoints, around their mean: no padding comes on top.
    """
    labeled = np.asarray(visibility > 0)
    if not happens(settings.half_body_prob, rng) or labeled.sum() <= settings.half_body_keypoints:
        return None
    lower = labeled & _lower_body(skeleton)
    upper = labeled & ~lower
    takes_upper = happens(UPPER_HALF_PROB, rng) and upper.sum() > 2
    half = keypoints[upper if takes_upper or lower.sum() <= 2 else lower]
    if len(half) < 2:
        return None
    bounds = np.ptp(half, axis=0)
    # HRNet does not check this; a region of one pixel shows nothing.
    if bounds.max() <= 1:
        return None
    center = half.mean(axis=0)
    extent = _HALF_BODY_SCALE * np.maximum(bounds, 1)
    return np.concatenate([center - extent / 2, center + extent / 2])


@cache
def _lower_body(skeleton: Skeleton) -> NDArray[np.bool_]:
    return np.array([any(part in keypoint for part in _LOWER) for keypoint in standard_names(skeleton.keypoint_names)])


def _random_crop(crop: Crop, settings: Augmentation, rng: np.random.Generator) -> Crop:
    """Plain crop -> the same region, randomly scaled, shifted, rotated and flipped."""
    scale = _scale(settings, rng)
    shift_x, shift_y = rng.uniform(-settings.shift, settings.shift, 2)
    turn = settings.rotation * min(1.0, max(-1.0, rng.normal(0, 0.5)))
    return replace(
        crop,
        center=(crop.center[0] + shift_x * crop.extent[0], crop.center[1] + shift_y * crop.extent[1]),
        extent=(crop.extent[0] * scale, crop.extent[1] * scale),
        rotation=turn if happens(settings.rotation_prob, rng) else 0.0,
        flip=happens(settings.flip_prob, rng),
    )


def _scale(settings: Augmentation, rng: np.random.Generator) -> float:
    """One draw of the factor by which the region is enlarged."""
    smallest, largest = settings.scale
    if settings.scale_sigma == 0:
        return rng.uniform(smallest, largest)
    return min(largest, max(smallest, rng.normal(1, settings.scale_sigma)))


def _occlude(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Image (h, w, 3) -> the same, with probability `occlusion_prob` partly covered by a rectangle of one color."""
    if not happens(settings.occlusion_prob, rng):
        return image
    size = np.array(image.shape[1::-1])
    sides = rng.uniform(*settings.occlusion, 2) * size
    corner = (rng.uniform(0, 1, 2) * (size - sides)).astype(int)
    (left, top), (right, bottom) = corner, np.ceil(corner + sides).astype(int)
    covered = image.copy()
    covered[top:bottom, left:right] = rng.integers(0, 256, 3, dtype=np.uint8)
    return covered
