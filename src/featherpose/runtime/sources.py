"""Which images and videos: files, folders, patterns and lists on stdin -> image files, and videos; any image in Python
-> pixels."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from featherpose import files, images
from featherpose.errors import InputError
from featherpose.records import Tally
from featherpose.runtime.video_sources import SUFFIXES as VIDEO_SUFFIXES
from featherpose.runtime.video_sources import is_video

AnyPath = str | os.PathLike[str]


@runtime_checkable
class Readable(Protocol):
    """A file opened in binary mode, or anything else with its `read`."""

    def read(self) -> bytes: ...


Source = AnyPath | bytes | bytearray | memoryview | Readable | NDArray[np.uint8] | images.PillowImage
"""An image: path, content of a file, open file, RGB uint8 (H, W, 3), or Pillow image."""

STDIN = "-"
"""The source that stands for the paths on stdin, one per line."""

_DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LOOKED_FOR = f"Looked for {' '.join(images.SUFFIXES)}."


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the unique name (with folders) of its results."""

    path: Path
    name: str
    unique_filename: bool = True
    """Whether no image in another folder has the same file name."""

    @property
    def drawn_name(self) -> str:
        """Name of the drawn image: the same suffix if it is widely supported, else .jpg."""
        name = Path(self.name)
        return name.as_posix() if name.suffix.lower() in _DRAWN_SUFFIXES else name.with_suffix(".jpg").as_posix()


def read_source(source: Source) -> NDArray[np.uint8]:
    """Image of any sort -> RGB uint8 (H, W, 3); an array is taken as it is. InputError if it cannot be read."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, images.PillowImage):
        return images.from_pillow(source)
    if isinstance(source, bytearray | memoryview):
        return images.read(bytes(source))
    if isinstance(source, Readable):
        return images.read(_content(source))
    if not isinstance(source, str | bytes | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"The image is a {type(source).__name__}, wanted a path, bytes, an open file, an RGB array or a Pillow"
            f" image.{_conversion(source)}"
        )
    if not isinstance(source, bytes):
        _refuse_address(os.fspath(source))
    return images.read(source)


def _content(file: Readable) -> bytes:
    content = "" if isinstance(file, io.TextIOBase) else file.read()
    if not isinstance(content, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  (a file opened as text)
        raise InputError("The image is a file opened as text; open it in binary mode: open(path, 'rb').")
    return content


def _conversion(source: object) -> str:
    """What to type for an image of a library that is not imported here, or ""."""
    if hasattr(source, "detach"):  # a torch tensor
        return " From float (3, H, W), 0 to 1: (tensor * 255).byte().permute(1, 2, 0).cpu().numpy()."
    if hasattr(source, "__array__"):  # jax, tensorflow
        return " Convert it: np.asarray(image)."
    return ""


def check_several(sources: object) -> None:
    """InputError for one image where several are wanted: a path would be iterated letter by letter."""
    if isinstance(sources, str | bytes | os.PathLike | images.PillowImage):
        raise InputError("estimate_all takes several images, this is one: put it into a list, or call estimate.")


@dataclass(frozen=True)
class SplitSources:
    """Sources of `predict`: the videos that are named, those that were found in folders, and where images are."""

    named_videos: list[AnyPath]
    videos_in_folders: list[AnyPath]
    of_images: list[AnyPath]


def split_sources(sources: Iterable[AnyPath], out: Path) -> SplitSources:
    """Sources -> which are videos. Folders are searched as by `find_images`; one without images contains videos alone.

    A pattern that ends in the suffix of a video matches videos.
    """
    named: list[AnyPath] = []
    in_folders: list[AnyPath] = []
    of_images: list[AnyPath] = []
    for source in sources:
        path = Path(source)
        found = _videos_of(path, out)
        if is_video(source):
            # A pattern that matches nothing is reported like a file that is missing.
            named += found or [source]
            continue
        in_folders += found
        if not found or _files_among(_walk(path), path, out, Tally("files")):
            of_images.append(source)
    return SplitSources(named, in_folders, of_images)


def _videos_of(path: Path, out: Path) -> list[Path]:
    """Folder, or pattern for videos -> its videos, sorted; none for anything else."""
    try:
        if path.is_dir():
            folder, paths = path, _walk(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and _pattern_start(path) is not None and not path.exists():
            folder, paths = _paths_of(path)
        else:
            return []
    except OSError:  # reported where it is opened
        return []
    return [video for video, _ in _files_among(paths, folder, out, Tally("files"), VIDEO_SUFFIXES)]


def find_images(sources: Iterable[AnyPath], out: Path, tally: Tally | None = None) -> tuple[list[ImageFile], list[str]]:
    """Files, folders, patterns and "-" (paths on stdin) -> images in a fixed order, and a line for each failure.

    Folders are searched recursively, by suffix, and linked ones, too. A pattern is a path with *, ? or [...]; ** stands
    for any folders. A file that is found several times is used once. Results of an earlier run, inside `out`, are not
    used. `tally` counts all files, and those in folders that are not used.
    """
    tally = tally or Tally("files")
    found: dict[Path, tuple[Path, str]] = {}
    failures: list[str] = []
    for source in _with_stdin(sources):
        try:
            for path, name in _search(source, out, tally):
                tally.total += 1
                if files.resolved(path) in found:
                    tally.leave_out("named twice", str(path))
                found.setdefault(files.resolved(path), (path, name))
        except InputError as error:
            failures.append(str(error))
    return _with_unique_names(list(found.values())), failures


def parse_shard(shard: str) -> tuple[int, int]:
    """ "2/5", the second of five shards -> (2, 5)."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"The shard is {shard!r}, wanted I/N with I from 1 to N, such as 1/4.")
    return int(match[1]), int(match[2])


T = TypeVar("T")


def select_shard(items: Sequence[T], index: int, count: int) -> list[T]:
    """Items and the 1-based shard -> every `count`-th of them: the shards are disjoint, and together complete."""
    return list(items[index - 1 :: count])


def _with_stdin(sources: Iterable[AnyPath]) -> Iterator[str]:
    """The sources as text, with the lines on stdin in place of "-"."""
    for source in sources:
        text = os.fspath(source)
        if text != STDIN:
            yield text
            continue
        # Bytes, because a path need not be valid text.
        for line in sys.stdin.buffer.read().splitlines():
            if line.strip():
                yield os.fsdecode(line)


def _search(source: str, out: Path, tally: Tally) -> list[tuple[Path, str]]:
    """One source -> its images and their names; InputError where it cannot be used."""
    _refuse_address(source)
    if "\0" in source:
        raise InputError(f"{source[:40]!r}: no path contains a zero byte; wanted one path per line.")
    path = Path(source)
    try:
        if path.is_dir():
            return _in_folder(path, out, tally)
        if not path.exists() and _pattern_start(path) is not None:
            return _matching(path, out, tally)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}). Check the path.") from None
    return [(path, path.name)]


def _in_folder(folder: Path, out: Path, tally: Tally) -> list[tuple[Path, str]]:
    here = Tally("files")
    found = _files_among(_walk(folder), folder, out, here)
    if not found:
        reasons = ", ".join(map(str, here.counts().left_out))
        raise InputError(f"{folder}: no image in this folder{reasons and ': '}{reasons}. {_LOOKED_FOR}")
    tally.add(here)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Folder -> the files in it and in all folders below, linked ones included; a folder that contains a link to itself
    is entered once."""
    entered: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if files.resolved(Path(place)) in entered:
            folders.clear()
            continue
        entered.add(files.resolved(Path(place)))
        yield from (Path(place) / name for name in names)


def _matching(pattern: Path, out: Path, tally: Tally) -> list[tuple[Path, str]]:
    """Pattern -> images that match it; their names begin where the pattern does."""
    folder, paths = _paths_of(pattern)
    found = _files_among(paths, folder, out, tally)
    if not found:
        raise InputError(f"{pattern}: no such file, and no image matches this pattern. {_LOOKED_FOR}")
    return found


def _paths_of(pattern: Path) -> tuple[Path, list[Path]]:
    """Pattern -> the folder before its first wildcard, and the paths that match."""
    start = _pattern_start(pattern)
    folder = Path(*pattern.parts[:start])
    relative = Path(*pattern.parts[start:])
    if relative.name == "**":
        relative /= "*"
    try:
        if "**" in relative.parts:
            # `Path.glob` does not look into linked folders below **.
            return folder, [path for path in _walk(folder) if _matches(path.relative_to(folder).parts, relative.parts)]
        return folder, list(folder.glob(relative.as_posix()))
    except ValueError as error:
        raise InputError(f"{pattern}: cannot be used as a pattern ({error}).") from None


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Parts of a path, and those of a pattern -> whether they match; ** stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _pattern_start(path: Path) -> int | None:
    """Index of the first part with a wildcard; None: no part has one. "run [2]" that exists is the name of a folder."""
    for index, part in enumerate(path.parts):
        if re.search(r"[*?[]", part) and not Path(*path.parts[: index + 1]).exists():
            return index
    return None


def _files_among(
    paths: Iterable[Path], folder: Path, out: Path, tally: Tally, suffixes: Sequence[str] = images.SUFFIXES
) -> list[tuple[Path, str]]:
    """Paths in a folder -> the images, or files with other suffixes, sorted, with their relative names; not the hidden
    ones and those in `out`.

    The files that are not used are counted, but not videos, which are found apart from images.
    """
    results = files.resolved(out) if files.resolved(out) != files.resolved(folder) else None
    found: list[tuple[Path, str]] = []
    for path in sorted(set(paths)):
        name = path.relative_to(folder)
        if not path.is_file():
            if files.is_stream(path):
                _pass_over(tally, "pipes or devices", name)
            elif path.is_symlink() and not path.is_dir():
                _pass_over(tally, "links that lead nowhere", name)
        elif path.suffix.lower() not in suffixes:
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                _pass_over(tally, "without the suffix of an image", name)
        elif any(part.startswith(".") for part in name.parts):
            _pass_over(tally, "hidden", name)
        elif results not in files.resolved(path).parents:
            found.append((path, name.as_posix()))
    return found


def _pass_over(tally: Tally, reason: str, name: Path) -> None:
    tally.total += 1
    tally.leave_out(reason, name.as_posix())


def _with_unique_names(found: Sequence[tuple[Path, str]]) -> list[ImageFile]:
    """Paths and names -> image files. The second image of a name gets the result name NAME-2.

    Some file systems treat A.jpg and a.jpg as the same.
    """
    filename_counts = Counter(path.name for path, _ in found)
    last_numbers: dict[str, int] = {}  # drawn name in lower case -> the last number that was appended to it
    image_files: list[ImageFile] = []
    for path, name in found:
        is_unique = filename_counts[path.name] == 1
        image_file = ImageFile(path, name, is_unique)
        first_name = image_file.drawn_name.lower()
        number = last_numbers.get(first_name, 1)
        while image_file.drawn_name.lower() in last_numbers:
            number += 1
            numbered = Path(name).with_stem(f"{Path(name).stem}-{number}").as_posix()
            image_file = ImageFile(path, numbered, is_unique)
        last_numbers[first_name] = number
        last_numbers.setdefault(image_file.drawn_name.lower(), 1)
        image_files.append(image_file)
    return image_files


def _refuse_address(source: str) -> None:
    if _ADDRESS.match(source):
        raise InputError(f"{source}: addresses are not read. Download the image and give its path: curl -O {source}")
