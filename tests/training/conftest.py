"""A small folder of shards with synthetic persons, so that runs take seconds and need no photographs."""

import importlib.util
import io
import json
import sys
import tarfile
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from featherpose.skeleton import COCO17
from tests.training.fork_server import ForkServer

TINY = {
    "network": "inverted_pose",
    "options": {"width": 0.1},
    "data": {"labels": "ground_truth"},
    "stages": [{"input_size": "64x64", "epochs": 2, "batch_size": 8, "sigma": 1.5}],
    "optimizer": {"lr": 0.002},
    "schedule": {"name": "cosine", "warmup": 2},
}
"""Recipe changes for a run that takes seconds."""
SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def script(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """A file of `benchmarks/` as a module."""
    patch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def synthetic_person(rng: np.random.Generator, key: str) -> tuple[bytes, bytes]:
    """Key -> WebP image and JSON record of a synthetic person: one colored square per keypoint."""
    keypoints = rng.integers(20, 76, (17, 2))
    image = np.full((96, 96, 3), rng.integers(0, 90), np.uint8)
    for keypoint, (x, y) in enumerate(keypoints):
        image[y - 2 : y + 3, x - 2 : x + 3] = (15 * keypoint, 255 - 15 * keypoint, 128)
    record = {
        **{"key": key, "source": "coco", "image": f"{key}.jpg", "skeleton": COCO17.name, "area": 2500.0},
        **{"width": 96, "height": 96, "scale": 1.0, "box_xywh": [16, 16, 64, 64]},
        "keypoints": [[int(x), int(y), 2] for x, y in keypoints],
    }
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", lossless=True)
    return stream.getvalue(), json.dumps(record).encode()


def write_shard(folder: Path) -> None:
    """Write one shard of 40 synthetic samples, some of them in the validation set."""
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "drawn.tar", "w") as archive:
        for i in range(40):
            key = f"drawn-{i:03d}"
            image, record = synthetic_person(rng, key)
            add_file(archive, f"{key}.webp", image)
            add_file(archive, f"{key}.json", record)


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the shard of `write_shard`."""
    folder = tmp_path_factory.mktemp("drawn")
    write_shard(folder)
    return folder


@pytest.fixture(scope="session")
def fork_server() -> Generator[ForkServer, None, None]:
    """Starts processes in which torch is imported already."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def synthetic_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one shard of 40 scenes of one synthetic person each, for a detector."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "scenes.tar", "w") as archive:
        for i in range(40):
            key = f"scene-{i:03d}"
            image, record = synthetic_person(rng, key)
            person = {field: json.loads(record)[field] for field in ("box_xywh", "keypoints")}
            scene = {**json.loads(record), "people": [person], "split": "val2017"}
            add_file(archive, f"{key}.webp", image)
            add_file(archive, f"{key}.json", json.dumps(scene).encode())
    return folder


@pytest.fixture(autouse=True)
def temporary_crop_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the crop caches in the temporary folder of the tests."""
    monkeypatch.setenv("FEATHERPOSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
