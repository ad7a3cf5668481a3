"""Augmentation of color: brightness, contrast, saturation, hue, gamma, conversion to gray, blur, noise.

Keypoints and boxes stay where they are. All random draws come from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from featherpose.errors import RecipeError

Image = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])  # brightness of R, G, B (ITU-R BT.601)
_GRAY_AXIS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)


@dataclass(frozen=True)
class ColorAugmentation:
    """Strength of each change of color. `*_prob` are probabilities; values are drawn uniformly from ranges."""

    color_prob: float = 0.8
    """Probability of a color change (the five ranges below)."""
    brightness: float = 0.25
    """Brightness is multiplied by 1 ± at most this."""
    contrast: float = 0.25
    """Contrast around middle gray is multiplied by 1 ± at most this."""
    saturation: float = 0.4
    """Saturation is multiplied by 1 ± at most this."""
    hue: float = 12.0
    """Largest rotation of the hue in degrees, in either direction (around the gray axis of RGB)."""
    gamma: float = 0.3
    """Exponent of the gamma curve is at most 1 plus this, or the inverse."""
    gray_prob: float = 0.05
    """Probability of a conversion to gray."""
    blur_prob: float = 0.1
    """Probability of a Gaussian blur, with a sigma of 0.4 to 1.4 pixels."""
    noise_prob: float = 0.1
    """Probability of gray Gaussian noise, with a standard deviation of 3 to 12 gray levels."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith("_prob")):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; wanted a probability from 0 to 1.")

    @classmethod
    def never(cls) -> dict[str, Any]:
        """All probabilities of the class, by name, set to 0."""
        return {field.name: 0.0 for field in fields(cls) if field.name.endswith("_prob")}


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Probability -> one draw; without one where it is 0."""
    return probability > 0 and rng.random() < probability


def jitter_color(image: Image, settings: ColorAugmentation, rng: np.random.Generator) -> Image:
    """RGB uint8 (h, w, 3) -> the same with random changes of color."""
    pixels: NDArray[Any] = image
    if happens(settings.color_prob, rng):
        pixels = cv2.LUT(cv2.transform(pixels, _color_matrix(settings, rng)), _gamma_table(settings, rng))
    if happens(settings.gray_prob, rng):
        pixels = cv2.transform(pixels, np.tile(_LUMA, (3, 1)))
    if happens(settings.blur_prob, rng):
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.4))
    if happens(settings.noise_prob, rng):
        grain = rng.standard_normal((*image.shape[:2], 1), np.float32) * rng.uniform(3, 12)
        pixels = np.clip(pixels + grain + 0.5, 0, 255)
    return pixels.astype(np.uint8, copy=False)


def _color_matrix(settings: ColorAugmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 4) matrix RGB1 -> RGB: hue, saturation, brightness and contrast combined."""
    turn = np.deg2rad(rng.uniform(-settings.hue, settings.hue))
    hue = np.cos(turn) * np.eye(3) + np.sin(turn) * _GRAY_AXIS + (1 - np.cos(turn)) / 3
    spread = np.array([settings.saturation, settings.brightness, settings.contrast])
    saturation, brightness, contrast = 1 + spread * rng.uniform(-1, 1, 3)
    colors = saturation * np.eye(3) + (1 - saturation) * _LUMA
    return np.column_stack([contrast * brightness * colors @ hue, np.full(3, 127.5 * (1 - contrast))])


def _gamma_table(settings: ColorAugmentation, rng: np.random.Generator) -> Image:
    """(256,) lookup table of a gamma curve."""
    exponent = (1 + settings.gamma) ** rng.uniform(-1, 1)
    return (255 * (np.arange(256) / 255) ** exponent + 0.5).astype(np.uint8)
