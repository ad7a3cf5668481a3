"""Crops for the parity check: photographs, the model's real input, and synthetic patterns, such as all black."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featherpose import examples, images
from featherpose.boxes import xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.data.shards import read_bytes, read_index
from featherpose.errors import InputError
from featherpose.manifest import PoseManifest
from featherpose.size import Size

Item = TypeVar("Item")
Crops = dict[str, NDArray[np.uint8]]
"""Name of a crop -> its pixels, uint8 (H, W, 3) RGB."""

MAX_IMAGES = 12  # of a folder; a wrong graph shows on any image
SEED = 2021


def synthetic(size: Size) -> Crops:
    """Size -> noise, black, white and two gradients of that size, identical on every call."""
    shape = (*size.shape, 3)
    across = np.linspace(0, 255, size.width).astype(np.uint8)
    down = np.linspace(0, 255, size.height).astype(np.uint8)
    return {
        "noise": np.random.default_rng(SEED).integers(0, 256, shape, np.uint8),
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "gradient across": np.broadcast_to(across[None, :, None], shape).copy(),
        "gradient down": np.broadcast_to(down[:, None, None], shape).copy(),
    }


def image_crops(manifest: PoseManifest, folder: Path | None = None) -> Crops:
    """Crops of the manifest's size from up to 12 images, or samples of shards (*.tar), in `folder`.

    Without a folder: the example images included in featherpose. Images are used whole.
    """
    if folder is None:
        found = [path for path in map(examples.find, examples.NAMES) if _is_image(path)]  # boxes.json is none
        return {path.name: _whole(path, manifest) for path in found}
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; wanted one with images or shards (*.tar) for the parity check.")
    if any(folder.glob("*.tar")):
        return _shard_crops(folder, manifest)
    found = _spread(sorted(path for path in folder.iterdir() if _is_image(path)))
    if not found:
        raise InputError(f"No images ({', '.join(images.SUFFIXES[:4])}, ...) and no shards (*.tar) in {folder}.")
    return {path.name: _whole(path, manifest) for path in found}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES


def _spread(items: list[Item]) -> list[Item]:
    """At most MAX_IMAGES of the items, evenly spaced."""
    if len(items) <= MAX_IMAGES:
        return items
    return [items[i * len(items) // MAX_IMAGES] for i in range(MAX_IMAGES)]


def _whole(path: Path, manifest: PoseManifest) -> NDArray[np.uint8]:
    image = images.read(path)
    height, width = image.shape[:2]
    # Without the usual margin: there are no pixels around an image.
    crop = Crop.from_box((0, 0, width, height), manifest.input_size, manifest.crop_mode, padding=1)
    return images.warp(image, crop.matrix, crop.size)


def _shard_crops(folder: Path, manifest: PoseManifest) -> Crops:
    crops: Crops = {}
    for sample in _spread(read_index(folder)):
        box = xywh_to_xyxy(sample.box_xywh[None])[0]
        crop = Crop.from_box(box, manifest.input_size, manifest.crop_mode, manifest.padding)
        image = images.read(read_bytes(sample.location), name=sample.key)
        crops[sample.key] = images.warp(image, crop.matrix, crop.size)
    return crops
