"""Packing of a data set into shards of crops, one for each labeled person, as `shards` reads them.

A crop is the region of the image that training uses (`samples`), scaled down where the person is larger than training
at the usual sizes can show. Keys are numbers, so that samples keep their order: training from the shards sees the same
sample at the same place as training from the images.

Shards are written one after the other, the crops of each in threads. pack.json beside them says what they were made of
and how; a run that was interrupted skips the shards that are there. With the same data, options and libraries a shard
has the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import images
from featherpose.data.cache import ASPECT, PADDING, ZOOM, read_stored
from featherpose.data.sample import Sample
from featherpose.data.store import Store
from featherpose.errors import DataError, InputError, with_name
from featherpose.skeleton import SKELETONS, Skeleton

FILE = "pack.json"
FORMATS = {"webp": ("webp", "WEBP", 90), "jpeg": ("jpg", "JPEG", 90), "avif": ("avif", "AVIF", 80)}
"""Name -> suffix, Pillow's name and default quality, at which pixels differ by 2 gray levels on average at most."""
LOSSLESS = "webp"
"""The format that can be lossless."""
MAX_HEIGHT = round(256 * ZOOM)
"""Height of a padded box in pixels: all that training at 256x192 can show of a person."""
SHARD_SIZE = 500
"""Samples in a shard."""

Progress = Callable[[int, int], None]
"""Samples done, samples in total."""


@dataclass(frozen=True)
class Packing:
    """How crops are stored."""

    image_format: str = LOSSLESS
    """A name in FORMATS."""
    quality: int | None = None
    """0 to 100; None: that of the format."""
    lossless: bool = False
    """Store the pixels as they are, in WebP."""
    max_height: int | None = None
    """Largest height of a padded box in pixels, 0 for no limit; None: MAX_HEIGHT, or no limit if lossless."""
    shard_size: int = SHARD_SIZE
    """Samples in a shard."""

    def __post_init__(self) -> None:
        if self.image_format not in FORMATS:
            raise InputError(f"image_format is {self.image_format!r}, wanted {', '.join(FORMATS)}.")
        if self.lossless and self.image_format != LOSSLESS:
            raise InputError(f"{self.image_format} is not lossless here; leave out the image format: it is {LOSSLESS}.")
        if self.lossless and self.quality is not None:
            raise InputError("quality has no effect with lossless; leave one of them out.")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality}, wanted 0 to 100.")
        if self.shard_size < 1 or (self.max_height or 0) < 0:
            raise InputError("shard_size must be at least 1, and max_height at least 0.")

    @property
    def height_limit(self) -> int:
        """Largest height of a padded box in pixels; 0: no limit."""
        if self.max_height is None:
            return 0 if self.lossless else MAX_HEIGHT
        return self.max_height


@dataclass
class Packed:
    """What a run has written."""

    num_samples: int
    num_shards: int
    num_skipped: int = 0
    """Shards that an earlier run had written."""
    broken: list[str] = field(default_factory=list[str])
    """One line for each sample that is not in the shards because its image cannot be used."""


def pack(
    samples: Sequence[Sample],
    store: Store,
    packing: Packing,
    *,
    threads: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Samples, where to write and how -> Packed; the shards and pack.json are written.

    Args:
        threads: crops that are made at the same time.
        overwrite: write all shards anew, whatever is there.
        progress: called with the number of samples done and in total.

    Raises:
        DataError: the place has shards of other data or options.
    """
    if not samples:
        raise DataError("There is no sample to pack.")
    facts = _facts(samples, packing)
    starts = range(0, len(samples), packing.shard_size)
    shard_names = {start: f"{_prefix(samples)}-{index:05}.tar" for index, start in enumerate(starts)}
    done, broken_before = _done(store, facts, overwrite)
    packed = Packed(len(samples), len(shard_names), broken=broken_before)
    for start, shard_name in shard_names.items():
        end = min(start + packing.shard_size, len(samples))
        if shard_name in done:
            packed.num_skipped += 1
        else:
            # With a digest, because shards of several data sets may be read together.
            keys = [f"{_prefix(samples)}-{facts['labels'][:6]}-{number:08}" for number in range(start, end)]
            made = _make_crops(samples[start:end], packing, threads, progress and _from(progress, start, len(samples)))
            shard = _shard(keys, made, FORMATS[packing.image_format][0], packed.broken)
            store.write(shard_name, shard)
            done.add(shard_name)
            # After the shard: what is listed is there, and complete.
            store.write(FILE, _to_json(facts, done, packed.broken))
    return packed


def crop_of(sample: Sample, height_limit: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Sample and largest height of its padded box (0: no limit) -> its crop RGB uint8 (H, W, 3), and the record beside
    it without the key; InputError or ValueError where its image cannot be used."""
    factor = _factor(sample, height_limit)
    image = np.ascontiguousarray(images.shrink(read_stored(sample), factor))
    height, width = image.shape[:2]
    # Sides are rounded, so that the factor differs a little between x and y.
    scale = np.array([width, height]) / sample.size.xy
    exact = scale == 1
    box = sample.box_xywh.astype(np.float64)
    moved = np.where(exact, box[:2], (box[:2] + 0.5) * scale - 0.5)
    points = sample.keypoints.astype(np.float64)
    points = np.where(exact, points, (points + 0.5) * scale - 0.5)
    points = np.where(sample.visibility[:, None] > 0, points, 0)
    keypoints = [[*point, v] for point, v in zip(points.tolist(), sample.visibility.tolist(), strict=True)]
    record: dict[str, Any] = {
        "keypoints": keypoints,
        "skeleton": _skeleton(sample.skeleton),
        "box_xywh": [*moved.tolist(), *(box[2:] * scale).tolist()],
        "image": sample.image,
        "source": sample.source,
        "width": width,
        "height": height,
        "scale": sample.scale * factor,
    }
    if sample.area is not None:
        record["area"] = sample.area * float(scale.prod())
    return image, record


def _make_crops(
    samples: Sequence[Sample], packing: Packing, threads: int, progress: Callable[[int], None] | None
) -> Iterator[tuple[bytes, bytes] | str]:
    """Samples -> image and record of each, encoded, or a message where its image cannot be used."""
    _, pillow_name, default_quality = FORMATS[packing.image_format]
    quality = default_quality if packing.quality is None else packing.quality

    def make(sample: Sample) -> tuple[bytes, bytes] | str:
        try:
            image, record = crop_of(sample, packing.height_limit)
        except (InputError, DataError, ValueError) as error:
            return with_name(sample.key, error)
        encoded = images.encode(image, pillow_name, quality=quality, lossless=packing.lossless)
        return encoded, json.dumps(record).encode()

    with ThreadPoolExecutor(threads) as pool:
        for done, made in enumerate(pool.map(make, samples), start=1):
            if progress:
                progress(done)
            yield made


def _shard(keys: Sequence[str], made: Iterable[tuple[bytes, bytes] | str], suffix: str, broken: list[str]) -> bytes:
    """Keys and what was made of their samples -> content of the shard; messages are added to `broken`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for key, contents in zip(keys, made, strict=True):
            if isinstance(contents, str):
                broken.append(contents)
                continue
            for ending, content in zip((suffix, "json"), contents, strict=True):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _from(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    """Progress of the whole -> that of a shard which begins when `before` samples are done."""
    return lambda done: progress(before + done, total)


def _factor(sample: Sample, height_limit: int) -> float:
    """Crop pixels per pixel of the sample's image."""
    _, _, width, height = sample.box_xywh.tolist()
    padded = PADDING * max(height, width / ASPECT)
    return min(1.0, height_limit / padded) if height_limit else 1.0


def _skeleton(skeleton: Skeleton) -> str | dict[str, Any]:
    """Name of a built-in skeleton; all of another one."""
    return skeleton.name if SKELETONS.get(skeleton.name) == skeleton else skeleton.to_dict()


def _prefix(samples: Sequence[Sample]) -> str:
    """Source of the samples, as a part of file names."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in samples[0].source)


def _facts(samples: Sequence[Sample], packing: Packing) -> dict[str, Any]:
    """What the shards are made of, for pack.json: two runs with the same facts write the same shards."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr((sample.key, sample.image, sample.size.xy, sample.location.nbytes)).encode())
        for values in (sample.keypoints, sample.visibility, sample.box_xywh):
            digest.update(values.tobytes())
    return {
        "version": 1,
        "source": samples[0].source,
        "samples": len(samples),
        "labels": digest.hexdigest()[:16],
        "packing": asdict(packing) | {"max_height": packing.height_limit},
    }


def _done(store: Store, facts: dict[str, Any], overwrite: bool) -> tuple[set[str], list[str]]:
    """Shards that an earlier run of the same data and options has completed, and what it could not use."""
    names = store.names()
    if overwrite or not any(name == FILE or name.endswith(".tar") for name in names):
        return set(), []
    before = json.loads(store.read(FILE)) if FILE in names else {}
    if {key: before.get(key) for key in facts} != facts:
        changed = [key for key in facts if before.get(key) != facts[key]]
        raise DataError(
            f"The place has shards of another data set or with other options ({', '.join(changed)} differ); write to"
            " another place, or all of them anew with --overwrite."
        )
    return set(before["shards"]) & names, list(before["broken"])


def _to_json(facts: dict[str, Any], done: set[str], broken: list[str]) -> bytes:
    return (json.dumps({**facts, "shards": sorted(done), "broken": broken}, indent=1) + "\n").encode()
