"""Small shards for tests: random images and their records."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from featherpose.data.sample import Sample
from featherpose.data.shards import read_index
from featherpose.size import Size
from featherpose.skeleton import SKELETONS

Pack = Callable[..., Path]
SIZE = Size(height=160, width=120)


def record(key: str, skeleton: str = "coco17", size: Size = SIZE, **changes: Any) -> dict[str, Any]:
    """Record of a labeled person whose keypoints are on a line through the image."""
    width, height = size.xy
    steps = np.linspace(0.3, 0.7, SKELETONS[skeleton].num_keypoints)
    return {
        **{"key": key, "image": f"{key}.jpg", "source": "own", "skeleton": skeleton, "scale": 0.5, "area": 100.0},
        **{"width": width, "height": height, "box_xywh": [0.2 * width, 0.2 * height, 0.6 * width, 0.6 * height]},
        **{"keypoints": [[float(s * width), float(s * height), 2] for s in steps]},
        **changes,
    }


def random_image(size: Size = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    """RGB uint8 (h, w, 3), smooth colors that depend on the seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size.xy, Image.Resampling.BICUBIC))


def encoded(image: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "WEBP", lossless=True)
    return data.getvalue()


def write_shard(path: Path, files: list[tuple[str, bytes]]) -> Path:
    """Names and contents -> a tar file."""
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Records -> a shard `NAME.tar` in the folder `shards` with an image for each record."""

    def write(*records: dict[str, Any], name: str = "own-0000") -> Path:
        folder = tmp_path / "shards"
        folder.mkdir(exist_ok=True)
        files: list[tuple[str, bytes]] = []
        for seed, person in enumerate(records):
            size = Size(height=person["height"], width=person["width"])
            files.append((person["key"] + ".webp", encoded(random_image(size, seed))))
            files.append((person["key"] + ".json", json.dumps(person).encode()))
        return write_shard(folder / f"{name}.tar", files)

    return write


@pytest.fixture(scope="session")
def real_samples(shared: Path) -> list[Sample]:
    """All samples of pose-train."""
    return read_index(shared / "data/pose-train")
