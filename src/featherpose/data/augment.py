"""One training crop of one labelled person, changed at random: turned, moved, mirrored, recoloured, half covered.

Whatever moves pixels is one `Crop` and one warp, and the joints go through the same matrix. All draws come from the
generator that is passed in (`sample_generator`), so the same generator gives the same crop.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.errors import RecipeError
from featherpose.keypoint_names import standard_names
from featherpose.size import Size
from featherpose.skeleton import Skeleton

Image = NDArray[np.uint8]
Label = TypeVar("Label", bound=np.number[Any])

_LOWER = ("hip", "pelvis", "knee", "ankle", "heel", "toe")
_LUMA = np.array([0.299, 0.587, 0.114])  # brightness of R, G, B (ITU-R BT.601)
_GRAY_AXIS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)


@dataclass(frozen=True)
class Augmentation:
    """How much a crop may differ from the plain one. `*_prob` are probabilities, ranges are drawn from evenly.

    Boxes that are off as a detector's (Fang et al. 2017 draw such for training) are in `scale` and `shift`: brought to
    the aspect of the input, a box with four wrong sides is a region of another size and centre, no more. Over COCO's
    people, normal errors of 0.1 of a box's sides (`boxes.jittered`) spread the size by 13 % and the centre by 4 and 5 %
    of the region, these defaults by 14 and 5 %; errors twice as large want about scale (0.6, 1.5), shift 0.16.
    """

    flip_prob: float = 0.5
    """How often the person is mirrored (left and right joints change places)."""
    scale: tuple[float, float] = (0.75, 1.25)
    """The shown region grows by a factor from this range: below 1 the person gets larger."""
    shift: float = 0.08
    """The region moves by at most this part of its width and height."""
    rotation_prob: float = 0.6
    """How often the person is turned."""
    rotation: float = 40.0
    """Largest turn in degrees either way; drawn from a normal of half this deviation, so small turns are common."""
    half_body_prob: float = 0.3
    """How often only the upper or the lower body is shown, of people with enough labelled joints."""
    half_body_keypoints: int = 8
    """Fewest labelled joints of a person that may be halved."""
    color_prob: float = 0.8
    """How often colours change at all (the five ranges below)."""
    brightness: float = 0.25
    """Brightness is multiplied by 1 plus or minus at most this."""
    contrast: float = 0.25
    """Contrast round middle grey is multiplied by 1 plus or minus at most this."""
    saturation: float = 0.4
    """Saturation is multiplied by 1 plus or minus at most this."""
    hue: float = 12.0
    """Colours turn round the grey axis by at most this many degrees."""
    gamma: float = 0.3
    """Exponent of the brightness curve is at most 1 plus this, or its inverse."""
    gray_prob: float = 0.05
    """How often colour is taken away."""
    blur_prob: float = 0.1
    """How often the crop is blurred, by a Gaussian of 0.4 to 1.4 pixels."""
    noise_prob: float = 0.1
    """How often grey grain is added, of a deviation of 3 to 12 grey levels."""
    occlusion_prob: float = 0.25
    """How often a rectangle of one colour covers a part; joints below it stay labelled."""
    occlusion: tuple[float, float] = (0.1, 0.4)
    """Sides of that rectangle as a part of the crop's sides."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith("_prob")):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; wanted a probability from 0 to 1.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"scale is {self.scale}; wanted (smallest, largest) factor above 0, as (0.75, 1.25).")
        if not 0 <= self.occlusion[0] <= self.occlusion[1] <= 1:
            raise RecipeError(f"occlusion is {self.occlusion}; wanted (smallest, largest) side from 0 to 1.")

    @classmethod
    def none(cls) -> Augmentation:
        """Nothing is changed: the plain crop, as in validation."""
        never: dict[str, Any] = {field.name: 0.0 for field in fields(cls) if field.name.endswith("_prob")}
        return cls(**never, scale=(1.0, 1.0), shift=0.0)


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
) -> tuple[Image, NDArray[np.float32], NDArray[Label]]:
    """RGB uint8 (h, w, 3), joints (..., K, 2), labelled (..., K) > 0, box (4,) -> crop of `size`.

    Joints and box are pixels of the picture, the joints returned are crop pixels and may lie outside. `visibility`
    (or weights: anything above 0 is labelled) comes back in the same order as the joints. Of several opinions about
    the joints, (T, K, 2), the first decides what half a body is.
    """
    points, num_keypoints = np.asarray(keypoints, np.float32), skeleton.num_keypoints
    first = points.reshape(-1, num_keypoints, 2)[0], visibility.reshape(-1, num_keypoints)[0]
    box_xyxy = _half_body(*first, skeleton, settings, rng)
    if box_xyxy is None:
        box_xyxy = xywh_to_xyxy(np.asarray(box_xywh, np.float32))
    crop = _moved(Crop.from_box(box_xyxy, size, mode), settings, rng)
    pixels = _covered(_color_jittered(images.warp(image, crop), settings, rng), settings, rng)
    order = skeleton.flip_order if crop.flip else slice(None)
    return pixels, crop.to_crop(points)[..., order, :].astype(np.float32), visibility[..., order]


def _happens(probability: float, rng: np.random.Generator) -> bool:
    return probability > 0 and rng.random() < probability


def _half_body(
    keypoints: NDArray[np.float32],
    visibility: NDArray[np.number[Any]],
    skeleton: Skeleton,
    settings: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.float32] | None:
    """Joints (K, 2) -> box (4,) xyxy of the upper or lower body (as HRNet's loader has it), or None for the whole."""
    labeled = np.asarray(visibility > 0)
    if not _happens(settings.half_body_prob, rng) or labeled.sum() < settings.half_body_keypoints:
        return None
    lower = _lower_body(skeleton)
    chosen = labeled & (lower if rng.random() < 0.5 else ~lower)
    low, high = keypoints[chosen].min(0, initial=np.inf), keypoints[chosen].max(0, initial=-np.inf)
    if chosen.sum() < 3 or min(high - low) <= 1:
        return None
    grown = 0.25 * (high - low)  # 1.5 times the joints' bounds: heads and feet reach beyond their joints
    return np.concatenate([low - grown, high + grown])


@cache
def _lower_body(skeleton: Skeleton) -> NDArray[np.bool_]:
    return np.array([any(part in keypoint for part in _LOWER) for keypoint in standard_names(skeleton.keypoint_names)])


def _moved(crop: Crop, settings: Augmentation, rng: np.random.Generator) -> Crop:
    """The plain crop -> the same region scaled, shifted, turned and mirrored at random."""
    scale = rng.uniform(*settings.scale)
    shift_x, shift_y = rng.uniform(-settings.shift, settings.shift, 2)
    turn = settings.rotation * min(1.0, max(-1.0, rng.normal(0, 0.5)))
    return replace(
        crop,
        center=(crop.center[0] + shift_x * crop.extent[0], crop.center[1] + shift_y * crop.extent[1]),
        extent=(crop.extent[0] * scale, crop.extent[1] * scale),
        rotation=turn if _happens(settings.rotation_prob, rng) else 0.0,
        flip=_happens(settings.flip_prob, rng),
    )


def _color_jittered(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    pixels: NDArray[Any] = image
    if _happens(settings.color_prob, rng):
        pixels = cv2.LUT(cv2.transform(pixels, _color_matrix(settings, rng)), _gamma_table(settings, rng))
    if _happens(settings.gray_prob, rng):
        pixels = cv2.transform(pixels, np.tile(_LUMA, (3, 1)))
    if _happens(settings.blur_prob, rng):
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.4))
    if _happens(settings.noise_prob, rng):
        grain = rng.standard_normal((*image.shape[:2], 1), np.float32) * rng.uniform(3, 12)
        pixels = np.clip(pixels + grain + 0.5, 0, 255)
    return pixels.astype(np.uint8, copy=False)


def _color_matrix(settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 4) matrix RGB1 -> RGB: hue, saturation, brightness and contrast in one."""
    turn = np.deg2rad(rng.uniform(-settings.hue, settings.hue))
    hue = np.cos(turn) * np.eye(3) + np.sin(turn) * _GRAY_AXIS + (1 - np.cos(turn)) / 3
    spread = np.array([settings.saturation, settings.brightness, settings.contrast])
    saturation, brightness, contrast = 1 + spread * rng.uniform(-1, 1, 3)
    colors = saturation * np.eye(3) + (1 - saturation) * _LUMA
    return np.column_stack([contrast * brightness * colors @ hue, np.full(3, 127.5 * (1 - contrast))])


def _gamma_table(settings: Augmentation, rng: np.random.Generator) -> Image:
    """(256,) table of a brightness curve."""
    exponent = (1 + settings.gamma) ** rng.uniform(-1, 1)
    return (255 * (np.arange(256) / 255) ** exponent + 0.5).astype(np.uint8)


def _covered(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Image (h, w, 3) -> the same with a rectangle of one colour laid over it now and then."""
    if not _happens(settings.occlusion_prob, rng):
        return image
    size = np.array(image.shape[1::-1])
    sides = rng.uniform(*settings.occlusion, 2) * size
    corner = (rng.uniform(0, 1, 2) * (size - sides)).astype(int)
    (left, top), (right, bottom) = corner, np.ceil(corner + sides).astype(int)
    covered = image.copy()
    covered[top:bottom, left:right] = rng.integers(0, 256, 3, dtype=np.uint8)
    return covered
