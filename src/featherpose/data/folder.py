"""Location of a data set: a path, or a name in the data folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from featherpose.errors import DataError

HOW_TO_GET = "docs/data.md says how to get the published data sets"
"""Half a sentence for messages about data that are missing."""


def data_folder() -> Path:
    """Folder of the data sets: `data` in FEATHERPOSE_DATA, or `~/.cache/featherpose/data`."""
    return Path(os.environ.get("FEATHERPOSE_DATA") or Path.home() / ".cache" / "featherpose") / "data"


def find_data(name: str | os.PathLike[str]) -> Path:
    """Path of a file or folder, or its name in the data folder -> its path; DataError when it does not exist."""
    # A path comes first, so that what is given is what is read.
    below = data_folder() / name
    for place in (Path(name), below):
        if place.exists():
            return place
    what = "file" if Path(name).suffix else "folder"
    if Path(name).is_absolute():
        raise DataError(f"There is no {what} {name}; give the path of a data set. {HOW_TO_GET}.")
    raise DataError(
        f"There is no {what} {name} and no {below}; give a path, or set FEATHERPOSE_DATA to the folder that contains"
        f" data/ with it. {HOW_TO_GET}."
    )


def find_folder(name: str | os.PathLike[str]) -> Path:
    """Path of a folder, or its name in the data folder -> its path; DataError when there is none."""
    place = find_data(name)
    if not place.is_dir():
        raise DataError(f"{place} is a file, wanted a folder.")
    return place


def split_of(place: Path, found: Iterable[str], split: str | None) -> str:
    """Data set, the splits found in it, and the one that is asked for -> the one to read: the only one, if None.

    DataError where there is none of that name, or a choice is missing.
    """
    known = sorted(found)
    if split is None and len(known) == 1:
        return known[0]
    if split in known:
        return split
    listed = ", ".join(known) or "none"
    if split is None and known:
        raise DataError(f"{place}: choose a split, for example {place / known[0]}; splits found: {listed}.")
    raise DataError(f"{place}: there is no split {split or ''}; splits found: {listed}.")
