"""The results of a run over many images: collected, written, and taken over from an earlier run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherpose import files
from featherpose.formats import native
from featherpose.formats.outputs import FORMATS
from featherpose.manifest import PoseManifest, PosesManifest
from featherpose.poses import Poses
from featherpose.runtime import resume
from featherpose.runtime.resume import Stamp
from featherpose.runtime.sources import ImageFile

WRITE_SECONDS = 30.0
"""The results are written this often during a run, or less often where that would take more than 5 % of the time."""


@dataclass(frozen=True)
class Destination:
    """Where the results of a run go."""

    folder: Path
    json_file: Path
    """poses.json, which resuming reads; it may be elsewhere."""
    draw_images: bool
    """Whether `folder` gets the drawn images."""
    formats: Sequence[str]
    """Names in `FORMATS` of the other formats that `folder` gets."""
    shard: str
    """"I/N", or empty for a whole run."""
    all_names: Sequence[str]
    """Names of the images of all shards."""


class Results:
    """The poses of a run over `image_files`, and the files with them."""

    def __init__(
        self,
        destination: Destination,
        image_files: Sequence[ImageFile],
        manifest: PoseManifest | PosesManifest,
        settings: Mapping[str, Any],
    ) -> None:
        self.destination = destination
        self._image_files = image_files
        self._manifest = manifest
        self._settings = settings
        self._poses: dict[str, Poses] = {}
        self._stamps: dict[str, Stamp] = {}
        self._kept_entries: dict[str, str] = {}
        """By name, the entries of resumed images in poses.json, as JSON text: their poses are rounded now, and rounding
        again would change scores by 0.0001."""
        self._next_write = time.monotonic() + WRITE_SECONDS

    @property
    def num_done(self) -> int:
        """Images with results."""
        return len(self._poses)

    def resume(self) -> None:
        """Take over the results of images that an earlier run has done and that have not changed."""
        earlier = resume.read(self.destination.json_file, self._settings)
        for image_file in self._image_files:
            name = image_file.name
            if name in earlier.poses and self._is_done(image_file, earlier.stamps.get(name)):
                self._poses[name] = earlier.poses[name]
                self._stamps[name] = earlier.stamps[name]
                self._kept_entries[name] = earlier.entries[name]

    def remaining(self) -> list[ImageFile]:
        """The images without results, in order."""
        return [image_file for image_file in self._image_files if image_file.name not in self._poses]

    def add(self, image_file: ImageFile, poses: Poses, stamp: Stamp | None) -> None:
        """Add the poses in an image, and its stamp from before it was read."""
        self._poses[image_file.name] = poses
        if stamp is not None:
            self._stamps[image_file.name] = stamp

    def poses(self) -> dict[str, Poses]:
        """The poses by the name of the image, in the order of the images."""
        names = [image_file.name for image_file in self._image_files]
        return {name: self._poses[name] for name in names if name in self._poses}

    def write_if_due(self) -> None:
        """Write poses.json if it was long ago: a run that is killed loses little. A stream is written once, at the
        end."""
        if time.monotonic() >= self._next_write and not files.is_stream(self.destination.json_file):
            start = time.monotonic()
            self._write_json(self._document())
            end = time.monotonic()
            self._next_write = end + max(WRITE_SECONDS, 20 * (end - start))

    def write(self) -> list[str]:
        """Write every file with the results of the images done so far -> what the other formats have written."""
        document = self._document()
        self._write_json(document)
        to = self.destination
        if not to.formats:
            return []
        # From the rounded poses of poses.json: a run that was resumed has no others.
        poses = native.from_document(document)
        skeleton = self._manifest.skeleton
        return [
            FORMATS[name].write(to.folder, poses, skeleton, document["model"], shard=to.shard, names=to.all_names)
            for name in to.formats
        ]

    def _document(self) -> dict[str, Any]:
        """The content of poses.json."""
        document = native.to_document(self.poses(), self._manifest.skeleton, self._manifest.network)
        return {**document, "images": [self._kept_entry(entry) for entry in document["images"]]}

    def _write_json(self, document: dict[str, Any]) -> None:
        files.make_folder(self.destination.json_file.parent)
        content = native.encode(native.to_text(document))
        resume.write(self.destination.json_file, content, self._settings, self._stamps)

    def _is_done(self, image_file: ImageFile, stamp: Stamp | None) -> bool:
        is_unchanged = stamp is not None and stamp == resume.stamp_of(image_file.path)
        is_drawn = (self.destination.folder / image_file.drawn_name).is_file()
        return is_unchanged and (is_drawn or not self.destination.draw_images)

    def _kept_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        kept = self._kept_entries.get(entry["image"])
        return entry if kept is None else json.loads(kept)
