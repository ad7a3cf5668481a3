"""A labeled data set, whatever its files look like: what its annotations say, and the folder of its images."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from featherpose import images, meaning
from featherpose.errors import DataError, InputError
from featherpose.formats.values import id_key
from featherpose.records import ImageRecord, Labels, some
from featherpose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: what its annotations say, and the folder of its images."""

    labels: Labels
    images: Path

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints that are annotated."""
        return self.labels.skeleton

    def warnings(self, *, strict: bool = False) -> list[str]:
        """What looks wrong about the labeled persons, one sentence each; `strict`: DataError in place of them."""
        try:
            return meaning.warnings_about(self.labels.images, self.labels.labeled, strict=strict)
        except InputError as error:
            raise DataError(f"{self.labels.name}: {error}") from None

    def with_ids(self, ids: Collection[str]) -> Dataset:
        """Ids or file names of images -> the data set with these images alone; DataError for one that it lacks."""
        rows = rows_of(ids, self.labels.images, self.labels.name)
        new_index = {row: index for index, row in enumerate(rows)}
        persons = [
            replace(person, image=new_index[person.image])
            for person in self.labels.persons
            if person.image in new_index
        ]
        # The annotations of the other images do not count.
        others = len(self.labels.persons) - len(persons)
        counts = replace(self.labels.counts, total=self.labels.counts.total - others)
        chosen = tuple(self.labels.images[row] for row in rows)
        return replace(self, labels=replace(self.labels, images=chosen, persons=tuple(persons), counts=counts))


def read_ids(path: str | os.PathLike[str]) -> frozenset[str]:
    """Text file -> the ids or file names of images in it, one a line; empty lines and those from # on do not count."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); wanted a text file, an image id or name a line.") from None
    ids = frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not ids:
        raise DataError(f"{path}: lists no image; wanted a text file, an image id or name a line.")
    return ids


def rows_of(ids: Collection[str], records: Collection[ImageRecord], name: str) -> list[int]:
    """Ids or file names of images, the images of a data set and its name -> their indices, in the data set's order.

    A file name may lack its folder, or its folder and its suffix.

    DataError for ids that the data set lacks.
    """
    wanted = {id_key(image_id) for image_id in ids}
    keys = [{id_key(record.id), record.name, Path(record.name).name, Path(record.name).stem} for record in records]
    rows = [row for row, of_image in enumerate(keys) if of_image & wanted]
    missing = sorted(wanted.difference(*(keys[row] for row in rows)))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} images are not in {name}: {some(missing)}."
            " Take the list of this data set, or another data set."
        )
    return rows


def with_sizes(labels: Labels, folder: Path) -> Labels:
    """Labels and the folder of their images -> the same, where an image without a size has that of its file, if this
    can be read."""
    if all(image.size for image in labels.images):
        return labels
    return replace(labels, images=tuple(_with_size(image, folder) for image in labels.images))


def _with_size(image: ImageRecord, folder: Path) -> ImageRecord:
    if image.size:
        return image
    try:
        return replace(image, size=images.read_size(folder / image.name))
    except InputError:
        return image
