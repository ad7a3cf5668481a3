"""Names of the result files: one for all images of a run or of a shard, or one per image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from featherpose.errors import InputError


def of_shard(name: str, shard: str) -> str:
    """Name of the file for all images, and the shard "I/N", empty for a whole run -> name of the shard's file.

    >>> of_shard("poses.json", ""), of_shard("poses.json", "1/4")
    ('poses.json', 'poses-1-of-4.json')
    """
    path = PurePosixPath(name)
    return f"{path.stem}-{shard.replace('/', '-of-')}{path.suffix}" if shard else name


def paths(folder: Path, names: Iterable[str], ending: str) -> dict[str, Path]:
    """Names of images, with folders -> path of the file of each: the name without suffix, plus `ending`, in `folder`.

    InputError for a name that leads out of the folder, and for two names that would get the same file.
    """
    by_path: dict[str, str] = {}
    found: dict[str, Path] = {}
    for name in names:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise InputError(f"{name}: wanted an image name below a folder, without a leading / and without '..'.")
        file = relative.with_name(relative.stem + ending).as_posix()
        # Some file systems treat A.txt and a.txt as the same.
        other = by_path.setdefault(file.casefold(), name)
        if other != name:
            raise InputError(f"{other} and {name}: both would be {file}. Rename one of the images.")
        found[name] = folder / file
    return found
