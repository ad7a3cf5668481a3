"""Crops for the parity check: identical synthetic ones, whole images, samples of shards."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose.errors import FeatherposeError
from featherpose.exporting.crops import MAX_IMAGES, image_crops, synthetic
from tests.exporting.conftest import SIZE, manifest

pytestmark = pytest.mark.torch


def test_synthetic_crops_are_deterministic():
    first, second = synthetic(SIZE), synthetic(SIZE)
    assert list(first) == ["noise", "black", "white", "gradient across", "gradient down"]
    for name, crop in first.items():
        assert (crop.shape, crop.dtype) == ((64, 48, 3), np.uint8)
        np.testing.assert_array_equal(crop, second[name])
    assert first["gradient across"][0, :, 0].tolist() == sorted(first["gradient across"][5, :, 2].tolist())
    assert (first["gradient down"][0] == 0).all() and (first["gradient down"][-1] == 255).all()


def test_example_images_are_used_whole():
    crops = image_crops(manifest())
    assert list(crops) == ["cameraman.jpg", "coffee.jpg", "collins.jpg", "hopper.jpg", "people.jpg"]
    assert all(crop.shape == (64, 48, 3) and crop.std() > 10 for crop in crops.values())
    # wider than the crop's aspect ratio: the image touches the sides, black above and below
    assert (crops["people.jpg"][[0, -1]] == 0).all() and crops["people.jpg"][32].any()


def test_crops_from_image_folder(tmp_path):
    for i in range(MAX_IMAGES + 8):
        Image.new("RGB", (96, 128), (i, 0, 0)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    crops = image_crops(manifest(), tmp_path)
    assert len(crops) == MAX_IMAGES and list(crops)[:3] == ["00.png", "01.png", "03.png"]
    assert (crops["03.png"] == (3, 0, 0)).all()


def shard(folder, box):
    record = {
        **{"keypoints": [[10, 10, 2]] * 17, "skeleton": "coco17", "box_xywh": box, "image": "a.jpg"},
        **{"source": "coco", "width": 96, "height": 96},
    }
    encoded = io.BytesIO()
    Image.new("RGB", (96, 96), (200, 100, 50)).save(encoded, "PNG")
    with tarfile.open(folder / "people.tar", "w") as archive:
        for name, content in (("a.png", encoded.getvalue()), ("a.json", json.dumps(record).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_crops_from_shard_folder(tmp_path):
    shard(tmp_path, [30, 30, 24, 32])
    crops = image_crops(manifest(), tmp_path)
    assert list(crops) == ["a"] and (crops["a"] == (200, 100, 50)).all()


def empty(folder):
    return folder


def missing(folder):
    return folder / "nowhere"


def broken(folder):
    (folder / "a.jpg").write_bytes(b"not a picture at all")
    return folder


@pytest.mark.parametrize(
    ("folder", "message"),
    [(empty, "No images .* in"), (missing, "nowhere is not a folder"), (broken, "a.jpg: not an image")],
)
def test_invalid_folder_raises(tmp_path, folder, message):
    with pytest.raises(FeatherposeError, match=message):
        image_crops(manifest(), folder(tmp_path))
