"""Location of a data set: a path, or the name of a folder in `data/` of FEATHERPOSE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

from featherpose.errors import DataError


def find_data(name: str | os.PathLike[str]) -> Path:
    """Path of a COCO file (*.json), or a folder as in `find_folder` -> its path; DataError when it does not exist."""
    if Path(name).suffix.lower() != ".json":
        return find_folder(name)
    if not Path(name).is_file():
        raise DataError(f"There is no file {name}; give the path of a COCO keypoints file (*.json), or of a folder.")
    return Path(name)


def find_folder(name: str | os.PathLike[str]) -> Path:
    """Path of a folder, or the name of one in `data/` of FEATHERPOSE_DATA (default `../shared`) -> its path.

    DataError when neither exists.
    """
    # A path comes first, so that a folder that is given is the one that is read.
    below = Path(os.environ.get("FEATHERPOSE_DATA", "../shared")) / "data" / name
    for place in (Path(name), below):
        if place.is_dir():
            return place
    raise DataError(
        f"There is no folder {name} and no {below}; "
        "give a path, or set FEATHERPOSE_DATA to the folder that contains data/ with it."
    )
