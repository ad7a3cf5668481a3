"""Cache of decoded images, of samples or of scenes: each is decoded once and stored on disk as raw pixels.

A cache is a folder with `pixels.u8` (RGB uint8, all images concatenated, memory-mapped) and `index.npz` (offsets,
shapes, which images could be decoded, and which were not taken as they are). Its name contains a digest of everything
that determines its content. It is built under a temporary name and renamed when complete, so that no partial cache is
ever read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import files, images
from featherpose.data.sample import Location, Sample
from featherpose.data.shards import read_bytes
from featherpose.errors import DataError, InputError, with_name
from featherpose.meaning import size_difference
from featherpose.records import count_notes
from featherpose.size import Size

PADDING = 1.25  # a crop shows the box enlarged by this factor, as Crop.from_box does
ASPECT = 3 / 4  # width / height of the crop for which the cached height is computed
LONG_SIDE = 416  # of whole images: as large as they are stored in shards, so one cache serves all input sizes
ZOOM = 1.35  # augmentation may enlarge a person by this factor without upsampling cached pixels
_LAYOUT = 2  # increase when the format of the cache files changes

Progress = Callable[[int, int], None]  # images done, images in total


class Stored(Protocol):
    """What the cache needs of a record with a stored image, such as a Sample or a Scene."""

    @property
    def key(self) -> str: ...
    @property
    def location(self) -> Location: ...
    @property
    def size(self) -> Size: ...


class _Plan(NamedTuple):
    """N images to cache, each with its cached pixels per stored pixel, and the numbers that these depend on."""

    records: Sequence[Stored]
    factors: list[float]
    numbers: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Crops:
    """N decoded images: `crops[i]` is RGB uint8 (h, w, 3); `to_cache` converts stored pixels to cached pixels."""

    folder: Path
    pixels: NDArray[np.uint8]  # all images, flat
    offsets: NDArray[np.int64]  # (N,)
    shapes: NDArray[np.int64]  # (N, 2) height, width
    factors: NDArray[np.float64]  # (N, 2) cached pixels per stored pixel in x and in y
    usable: NDArray[np.bool_]  # (N,) False: the image could not be decoded
    broken: tuple[str, ...]  # one message for each image that could not be decoded
    notes: tuple[str, ...] = ()  # what was done to images that were not taken as they are, with their number

    @classmethod
    def build(
        cls,
        samples: Sequence[Sample],
        height: int = 128,
        folder: Path | str | None = None,
        progress: Progress | None = None,
        threads: int = 2,
        *,
        rebuild: bool = False,
    ) -> Crops:
        """N samples and the height of the network's input -> their images from the cache, which is built if missing.

        `folder` holds all caches (default: `cache_folder()`); `rebuild` builds a cache that exists once more. DataError
        when the cache cannot be written.
        """
        factors = [cached_factor(sample, height) for sample in samples]
        plan = _Plan(samples, factors, (height, PADDING, ASPECT, ZOOM))
        return cls.open(_built(plan, f"crops-{height}", folder, progress, threads, rebuild))

    @classmethod
    def build_whole(
        cls,
        scenes: Sequence[Stored],
        long_side: int = LONG_SIDE,
        folder: Path | str | None = None,
        progress: Progress | None = None,
        threads: int = 2,
        *,
        rebuild: bool = False,
    ) -> Crops:
        """N scenes -> their whole images, as `build` does it, the longer side scaled down to at most `long_side`."""
        factors = [min(1.0, long_side / max(scene.size.shape)) for scene in scenes]
        plan = _Plan(scenes, factors, (long_side,))
        return cls.open(_built(plan, f"scenes-{long_side}", folder, progress, threads, rebuild))

    @classmethod
    def open(cls, place: Path) -> Crops:
        """Folder of one complete cache -> its crops, memory-mapped read-only."""
        with np.load(place / "index.npz") as index:
            arrays = {name: index[name] for name in ("offsets", "shapes", "factors", "usable")}
            broken, notes = (tuple(str(sentence) for sentence in index[name]) for name in ("broken", "notes"))
        empty = (place / "pixels.u8").stat().st_size == 0
        pixels = np.zeros(0, np.uint8) if empty else np.memmap(place / "pixels.u8", np.uint8, mode="r")
        return cls(place, pixels, **arrays, broken=broken, notes=notes)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Index of a sample -> its cached image, RGB uint8 (h, w, 3), a read-only view."""
        if not self.usable[index]:
            raise DataError(f"the image of sample {index} could not be decoded; use only samples in crops.usable.")
        height, width = self.shapes[index].tolist()
        start = int(self.offsets[index])
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Callable[[Path], Crops], tuple[Path]]:
        """Pickled as the folder's path, so that the memory map is not copied to other processes."""
        return Crops.open, (self.folder,)

    def usable_rows(self, rows: NDArray[np.int64], part: str) -> NDArray[np.int64]:
        """Indices of samples, and what they are for -> those whose image can be used; DataError where none can."""
        kept = rows[self.usable[rows]]
        if not len(kept):
            reason = f"; first error: {self.broken[0]}" if self.broken else ""
            raise DataError(f"None of the {len(rows)} images {part} can be used{reason}")
        return kept

    def to_cache(self, keypoints: ArrayLike) -> NDArray[np.float32]:
        """Points (N, K, 2) in pixels of the stored images -> (N, K, 2) in pixels of the cached images."""
        factors = self.factors[:, None]
        return ((np.asarray(keypoints) + 0.5) * factors - 0.5).astype(np.float32)

    def boxes_to_cache(self, boxes_xywh: ArrayLike) -> NDArray[np.float32]:
        """Boxes (N, 4) in pixels of the stored images -> (N, 4) in pixels of the cached images."""
        corners = self.to_cache(np.asarray(boxes_xywh)[:, None, :2])[:, 0]
        return np.concatenate([corners, np.asarray(boxes_xywh)[:, 2:] * self.factors], 1).astype(np.float32)


def cache_folder() -> Path:
    """Folder of all caches: the environment variable FEATHERPOSE_CACHE, or `~/.cache/featherpose`."""
    return Path(os.environ.get("FEATHERPOSE_CACHE") or Path.home() / ".cache" / "featherpose")


def cached_factor(sample: Sample, height: int) -> float:
    """Sample and height of the network's input -> cached pixels per stored pixel, at most 1."""
    _, _, width, tall = sample.box_xywh.tolist()
    return min(1.0, height * ZOOM / (PADDING * max(tall, width / ASPECT)))


def _built(
    plan: _Plan, name: str, folder: Path | str | None, progress: Progress | None, threads: int, rebuild: bool
) -> Path:
    """Images to cache -> the folder of their cache, which is built if missing."""
    caches = Path(folder) if folder else cache_folder()
    place = caches / f"{name}-{_digest(plan)}"
    try:
        caches.mkdir(parents=True, exist_ok=True)
        with files.locked(caches / f".{place.name}.lock"):
            if rebuild:
                shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                _build(plan, place, progress or _no_progress, threads)
    except OSError as error:
        raise DataError(
            f"cannot build the crop cache in {caches}: {error.strerror or error}; "
            "free disk space there or set FEATHERPOSE_CACHE to another folder."
        ) from error
    return place


def _digest(plan: _Plan) -> str:
    """Digest of everything that determines the content: files (path, size, time of the last change), images taken from
    them, scaling."""
    digest = hashlib.sha256(repr((_LAYOUT, *plan.numbers, len(plan.records))).encode())
    paths = {path: path.resolve() for path in {record.location.path for record in plan.records}}
    for path in sorted(paths.values()):
        facts = path.stat()
        digest.update(repr((str(path), facts.st_size, facts.st_mtime_ns)).encode())
    for record, factor in zip(plan.records, plan.factors, strict=True):
        at = record.location
        place = (str(paths[at.path]), at.offset, at.nbytes, *((at.region,) if at.region else ()))
        digest.update(repr((record.key, place, record.size.xy, factor)).encode())
    return digest.hexdigest()[:16]


def _build(plan: _Plan, place: Path, progress: Progress, threads: int) -> None:
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a builder that was killed
    part.mkdir()
    try:
        _fill(plan, part, progress, threads)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fill(plan: _Plan, part: Path, progress: Progress, threads: int) -> None:
    """Write both files of a cache into the folder `part`."""
    records = plan.records
    index = _layout(plan)
    total = int(index["shapes"].prod(1).sum()) * 3
    _refuse_full_disk(part, total)
    broken: dict[int, str] = {}
    notes: dict[int, list[str]] = {}
    writing = threading.Lock()
    with (part / "pixels.u8").open("wb") as file:

        def store(row: int) -> None:
            try:
                said: list[str] = []
                image = _decode(records[row], tuple(index["shapes"][row]), plan.factors[row], said)
                if said:
                    notes[row] = said
            except (InputError, ValueError) as error:
                broken[row] = with_name(records[row].location.path.name, error)
                return
            # Not through a memory map: with one, a full disk kills the process without an error.
            with writing:
                file.seek(int(index["offsets"][row]))
                file.write(image.data)

        _run(store, len(records), progress, threads)
        file.truncate(total)
        file.flush()
        os.fsync(file.fileno())
    index["usable"][list(broken)] = False
    # By the file: several records may be of one image.
    by_image = {_image_name(records[row]): "; ".join(notes[row]) for row in sorted(notes)}
    sentences = {"broken": [broken[row] for row in sorted(broken)], "notes": count_notes(by_image)}
    texts = {name: np.array(lines, np.str_) for name, lines in sentences.items()}
    with (part / "index.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **index, **texts)
        file.flush()
        os.fsync(file.fileno())


def _run(task: Callable[[int], None], count: int, progress: Progress, threads: int) -> None:
    """Call task(0) .. task(count - 1) in threads; an error or an interrupt cancels the remaining calls."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done, _ in enumerate(pool.map(task, range(count)), start=1):
                progress(done, count)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _layout(plan: _Plan) -> dict[str, NDArray[Any]]:
    """Offsets and shapes of the cached images, from the sizes alone: shapes as `images.shrink` rounds them."""
    sizes = np.array([record.size.xy for record in plan.records], np.int64).reshape(-1, 2)
    wanted = np.array(plan.factors).reshape(-1, 1)
    cached = np.maximum(1, np.round(sizes * wanted)).astype(np.int64)
    nbytes = cached.prod(1) * 3
    return {
        "offsets": np.cumsum(nbytes) - nbytes,
        "shapes": cached[:, ::-1],
        "factors": cached / sizes,
        "usable": np.ones(len(plan.records), bool),
    }


def _refuse_full_disk(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise OSError(f"it needs {nbytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")


def _image_name(record: Stored) -> str:
    """Name of the file, or the key of an image in a shard."""
    return record.location.path.name if record.location.region else record.key


def read_stored(record: Stored, notes: list[str] | None = None) -> NDArray[np.uint8]:
    """Sample or scene -> its stored image, RGB uint8 (H, W, 3): of a whole image, the region that belongs to it.

    `notes` gets a sentence where it was not taken as it is. InputError, or ValueError where the image has not the size
    that is recorded.
    """
    image = images.read(read_bytes(record.location), name=record.key, notes=notes)
    region = record.location.region
    actual, recorded = image.shape[:2], (region.size if region else record.size).shape
    if actual != recorded:
        size = Size(height=actual[0], width=actual[1])
        raise ValueError(size_difference(record.key, size, region.size if region else record.size))
    if region:
        height, width = record.size.shape
        image = image[region.top : region.top + height, region.left : region.left + width]
    return image


def _decode(record: Stored, shape: tuple[int, int], factor: float, notes: list[str]) -> NDArray[np.uint8]:
    shrunk = images.shrink(read_stored(record, notes), factor)
    if shrunk.shape[:2] != shape:
        raise ValueError(f"{record.key}: shrunk to {shrunk.shape[:2]}, wanted {shape}")
    return np.ascontiguousarray(shrunk)


def _no_progress(done: int, total: int) -> None:
    pass
