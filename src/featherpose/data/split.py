"""The split of a data set into two parts by image, the same on every machine: by a digest of each image's name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from featherpose import files
from featherpose.data.sample import is_validation
from featherpose.errors import DataError

TRAIN_FILE = "train.txt"
VAL_FILE = "val.txt"


def split_images(names: Iterable[str], val_fraction: float = 0.2, seed: int = 0) -> tuple[list[str], list[str]]:
    """Names of images -> those of the training and of the validation part, sorted; `val_fraction` is 1/n.

    Which part an image is in depends on its name and the seed alone. With seed 0 it is the part that training holds
    out with the same `data.val_fraction`. DataError where a part is empty.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    for name in sorted(set(names)):
        parts[is_validation(name, val_fraction, seed)].append(name)
    train, val = parts
    if not train or not val:
        raise DataError(
            f"All {len(train) + len(val)} images fall into one part with a validation fraction of {val_fraction:g} and"
            f" the seed {seed}; take another seed or a larger fraction."
        )
    return train, val


def write_lists(folder: Path, train: Iterable[str], val: Iterable[str]) -> tuple[Path, Path]:
    """Folder and names of images -> paths of train.txt and val.txt there, one name a line, for `--ids`."""
    files.make_folder(folder)
    for name, images in ((TRAIN_FILE, train), (VAL_FILE, val)):
        files.replace(folder / name, "".join(f"{image}\n" for image in images).encode())
    return folder / TRAIN_FILE, folder / VAL_FILE
