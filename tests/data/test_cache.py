"""The crop cache: correct pixels at correct positions, and never a partial cache, however the build ends."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from featherpose import images
from featherpose.data import cache
from featherpose.data.cache import Crops, cache_folder, cached_factor
from featherpose.data.sample import Sample
from featherpose.data.samples import labeled_samples
from featherpose.data.shards import read_bytes, read_index
from featherpose.errors import DataError
from featherpose.size import Size
from tests.data.conftest import Pack, encoded, random_image, record, write_shard

LARGE = Size(height=320, width=240)


@pytest.fixture
def samples(pack: Pack) -> list[Sample]:
    """Three samples: one downscaled, one kept unchanged, one with odd sides."""
    records = [
        record("a", size=LARGE),
        record("b", size=Size(height=40, width=30)),
        record("c", size=Size(height=333, width=201)),
    ]
    return read_index(pack(*records).parent)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


def complete(caches: Path) -> list[str]:
    """Names in the folder except lock files."""
    return sorted(path.name for path in caches.iterdir() if path.suffix != ".lock") if caches.exists() else []


def test_cached_pixels_are_shrunk_images(samples: list[Sample], caches: Path) -> None:
    crops = Crops.build(samples, 64, caches)
    assert len(crops) == 3
    for i, sample in enumerate(samples):
        whole = images.read(read_bytes(sample.location))
        assert np.array_equal(crops[i], images.shrink(whole, cached_factor(sample, 64)))
    assert np.array_equal(crops[1], images.read(read_bytes(samples[1].location)))


def test_cached_height_allows_for_zoom(samples: list[Sample]) -> None:
    """1.25 x the box at 3:4 is height x 1.35 cached pixels high; a small image is never enlarged."""
    box_height = 0.6 * 320
    assert cached_factor(samples[0], 64) == pytest.approx(64 * 1.35 / (1.25 * box_height))
    assert cached_factor(samples[1], 64) == 1


def test_points_and_boxes_follow_the_pixels(pack: Pack, caches: Path) -> None:
    """A bright block is found where `to_cache` maps its center."""
    person = record("a", size=LARGE, keypoints=[[100.5, 200.5, 2]] * 17, box_xywh=[60, 100, 120, 160])
    shard = pack(person)
    image = np.zeros((320, 240, 3), np.uint8)
    image[196:206, 96:106] = 255
    write_shard(shard, [("a.webp", encoded(image)), ("a.json", json.dumps(person).encode())])
    sample = read_index(shard.parent)[0]
    crops = Crops.build([sample], 64, caches)
    gray = crops[0][..., 0].astype(float)
    rows, columns = np.indices(gray.shape)
    found = np.array([(gray * columns).sum(), (gray * rows).sum()]) / gray.sum()
    np.testing.assert_allclose(
        crops.to_cache(sample.keypoints[None])[0, 0], found, atol=0.05
    )  # an offset of half a pixel would give 0.28
    factor = crops.factors[0]
    expected = [*((np.array([60, 100]) + 0.5) * factor - 0.5), *(np.array([120, 160]) * factor)]
    np.testing.assert_allclose(crops.boxes_to_cache([[60, 100, 120, 160]])[0], expected, rtol=1e-6)


def test_second_build_decodes_nothing(samples: list[Sample], caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Crops.build(samples, 64, caches)
    monkeypatch.setattr(images, "read", lambda *_, **__: pytest.fail("decoded again"))
    again = Crops.build(samples, 64, caches)
    assert again.folder == first.folder
    assert np.array_equal(again.pixels, first.pixels)


def test_rebuilt_cache_is_bit_equal(samples: list[Sample], tmp_path: Path) -> None:
    one, two = (Crops.build(samples, 64, tmp_path / name, threads=threads) for name, threads in (("1", 1), ("2", 4)))
    for name in ("pixels.u8", "index.npz"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_changed_content_changes_the_folder(samples: list[Sample], pack: Pack, caches: Path) -> None:
    built = [Crops.build(subset, height, caches).folder for subset, height in (
        (samples, 64), (samples, 65), (samples[:2], 64), (samples[::-1], 64)
    )]  # fmt: skip
    pack(*[record(key, size=LARGE) for key in "abc"])
    built.append(Crops.build(read_index(samples[0].location.path.parent), 64, caches).folder)
    assert len(set(built)) == 5


def test_equal_names_and_sizes_are_not_equal_images(tmp_path: Path, caches: Path) -> None:
    """Another folder with a file of the same name and size, and a file that was changed in place."""
    folders: list[Path] = []
    for name, noise in (("first", b"not an image"), ("second", b"no image yet")):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / f"{name}/own.tar", [("a.webp", noise), ("a.json", json.dumps(record("a")).encode())])
        folders.append(Crops.build(read_index(tmp_path / name), 64, caches).folder)
    os.utime(tmp_path / "second/own.tar", ns=(0, 1))
    folders.append(Crops.build(read_index(tmp_path / "second"), 64, caches).folder)
    assert len(set(folders)) == 3


def test_rebuilding_decodes_again(samples: list[Sample], caches: Path) -> None:
    place = Crops.build(samples, 64, caches).folder
    (place / "pixels.u8").write_bytes(bytes((place / "pixels.u8").stat().st_size))
    assert not Crops.build(samples, 64, caches).pixels.any()
    assert Crops.build(samples, 64, caches, rebuild=True).pixels.any()


def test_whole_images_keep_their_size_up_to_416(samples: list[Sample], caches: Path) -> None:
    crops = Crops.build_whole(samples, folder=caches)
    assert np.array_equal(crops[0], images.read(read_bytes(samples[0].location)))
    small = Crops.build_whole(samples, 160, caches)
    assert [small[row].shape[:2] for row in range(3)] == [(160, 120), (40, 30), (160, 97)]
    assert small.folder != crops.folder


def test_brightened_images_are_said_once_each(tmp_path: Path, caches: Path) -> None:
    dark = Image.fromarray(np.full((90, 120), 3000, np.uint16))
    for name in ("a.png", "b.png"):
        dark.save(tmp_path / name)
    annotation = {"category_id": 1, "keypoints": [30, 30, 2, 50, 50, 2]}
    document = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(("a.png", "b.png"))],
        "annotations": [
            {**annotation, "image_id": image, "bbox": [left, 20, 40, 40]} for image, left in ((0, 20), (0, 25), (1, 20))
        ],
        "categories": [{"id": 1, "name": "bird", "keypoints": ["beak", "tail"]}],
    }
    (tmp_path / "birds.json").write_text(json.dumps(document))
    samples, _ = labeled_samples(tmp_path / "birds.json")
    Crops.build(samples, 64, caches)
    again = Crops.build(samples, 64, caches)
    assert again.notes == ("2 images (first a.png): 12 of 16 bits are used; brightened, as if 4095 were white.",)


def test_cache_without_samples_is_empty(caches: Path) -> None:
    crops = Crops.build([], 64, caches)
    assert len(crops) == 0
    assert crops.to_cache(np.zeros((0, 17, 2))).shape == (0, 17, 2)


def test_progress_reports_every_sample(samples: list[Sample], caches: Path) -> None:
    seen: list[tuple[int, int]] = []
    Crops.build(samples, 64, caches, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cached_images_are_read_only(samples: list[Sample], caches: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        Crops.build(samples, 64, caches)[0][:] = 0


def test_pickle_contains_only_the_folder(samples: list[Sample], caches: Path) -> None:
    crops = Crops.build(samples, 64, caches)
    sent = pickle.dumps(crops)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)[2], crops[2])


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2]


BAD_IMAGES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("truncated", damaged, "b: "),
    ("empty", lambda _: b"", "b: the file is empty"),
    ("not an image", lambda _: b"RIFF but no picture", "b: not an image"),
    (
        "wrong size",
        lambda _: encoded(random_image(Size(height=60, width=50))),
        "b: the image has 60x50 pixels, but is annotated with 160x120",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in BAD_IMAGES], ids=[row[0] for row in BAD_IMAGES])
def test_broken_image_is_reported_not_replaced(
    spoil: Callable[[bytes], bytes], message: str, pack: Pack, caches: Path
) -> None:
    records = [record(key) for key in "abc"]
    shard = pack(*records)
    contents = [encoded(random_image(seed=0)), spoil(encoded(random_image(seed=1))), encoded(random_image(seed=2))]
    files = [(p["key"] + ".webp", content) for p, content in zip(records, contents, strict=True)]
    write_shard(shard, files + [(p["key"] + ".json", json.dumps(p).encode()) for p in records])
    crops = Crops.build(read_index(shard.parent), 256, caches)
    assert crops.usable.tolist() == [True, False, True]
    assert len(crops.broken) == 1
    assert crops.broken[0].startswith("own-0000.tar: " + message)
    assert np.array_equal(crops[2], random_image(seed=2))
    with pytest.raises(DataError, match=r"the image of sample 1 could not be decoded"):
        crops[1]


def test_missing_shard_aborts_the_build(samples: list[Sample], caches: Path) -> None:
    def vanish(done: int, _: int) -> None:
        samples[0].location.path.unlink(missing_ok=True)

    with pytest.raises(DataError, match="was the shard moved"):
        Crops.build(samples * 50, 64, caches, progress=vanish)
    assert complete(caches) == []


def test_full_disk_is_refused_before_decoding(
    samples: list[Sample], caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(
        DataError, match=r"it needs 0\.0 GB and 0\.0 GB are free; free disk space there or set FEATHERPOSE_CACHE"
    ):
        Crops.build(samples, 64, caches)
    assert complete(caches) == []


def test_disk_full_during_build_leaves_no_cache(samples: list[Sample], caches: Path) -> None:
    """A limit on file sizes simulates a full disk: the write fails halfway."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            DataError, match=r"cannot build the crop cache in .*: File too large; free disk space there"
        ):
            Crops.build(samples, 64, caches)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert complete(caches) == []


def test_cache_folder_cannot_be_created(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot build the crop cache in"):
        Crops.build(samples, 64, tmp_path / "file")


def test_interrupted_build_leaves_no_cache(samples: list[Sample], caches: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Crops.build(samples, 64, caches, progress=interrupt)
    assert complete(caches) == []
    assert len(Crops.build(samples, 64, caches)) == 3


KILLED = """
import os, sys
from featherpose.data.cache import Crops
from featherpose.data.shards import read_index
Crops.build(read_index(sys.argv[1]), 64, sys.argv[2], progress=lambda done, total: os._exit(9))
"""


def test_killed_build_is_removed_and_rebuilt(samples: list[Sample], caches: Path) -> None:
    shards = samples[0].location.path.parent
    done = subprocess.run([sys.executable, "-c", KILLED, str(shards), str(caches)], env=_environment(), check=False)
    assert done.returncode == 9
    assert [name for name in complete(caches) if not name.startswith(".")] == []
    crops = Crops.build(samples, 64, caches)
    assert complete(caches) == [crops.folder.name]


def _environment() -> dict[str, str]:
    """Environment of this process, with PYTHONPATH set so that the package is importable without installation."""
    source = str(Path(cache.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


def test_concurrent_processes_build_once(samples: list[Sample], caches: Path) -> None:
    script = KILLED.replace("os._exit(9)", "print(done)")
    shards = str(samples[0].location.path.parent)
    command = [sys.executable, "-c", script, shards, str(caches)]
    started = [subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert printed == ["", "1\n2\n3\n"]


def test_cache_folder_follows_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FEATHERPOSE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    assert cache_folder() == Path("/home/someone/.cache/featherpose")


def test_real_samples_are_cached_at_height(real_samples: list[Sample], caches: Path) -> None:
    samples = real_samples[::200]
    crops = Crops.build(samples, 128, caches)
    assert crops.usable.all()
    assert crops.broken == ()
    boxes = crops.boxes_to_cache([sample.box_xywh for sample in samples])
    shown = 1.25 * np.maximum(boxes[:, 3], boxes[:, 2] * 4 / 3)
    assert shown.max() < 1.02 * 128 * 1.35  # sides are rounded to whole pixels
