"""Names of the result files of formats with one file per image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from featherpose.errors import InputError


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
