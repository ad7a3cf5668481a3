"""The results of a run over many images: collected, written, and taken over from an earlier run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featherpose.errors import InputError
from featherpose.formats import native
from featherpose.manifest import PoseManifest
from featherpose.poses import Poses
from featherpose.runtime import resume
from featherpose.runtime.resume import Stamp
from featherpose.runtime.sources import ImageFile

WRITE_SECONDS = 30.0
"""The results are written this often during a run, or less often where that would take more than 5 % of the time."""


class Results:
    """The poses of a run over `image_files`, and poses.json. Drawn images are expected in `drawn_in` (None: none)."""

    def __init__(
        self,
        json_file: Path,
        image_files: Sequence[ImageFile],
        drawn_in: Path | None,
        manifest: PoseManifest,
        settings: Mapping[str, Any],
    ) -> None:
        self.json_file = json_file
        self._image_files = image_files
        self._drawn_in = drawn_in
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
        earlier = resume.read(self.json_file, self._settings)
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
        """Write the results if it was long ago: a run that is killed loses little."""
        if time.monotonic() >= self._next_write:
            self.write()

    def write(self) -> None:
        """Write the results of the images done so far."""
        start = time.monotonic()
        document = native.to_document(self.poses(), self._manifest.skeleton, self._manifest.network)
        document["images"] = [self._kept_entry(entry) for entry in document["images"]]
        _write_results(self.json_file, document, self._settings, self._stamps)
        end = time.monotonic()
        self._next_write = end + max(WRITE_SECONDS, 20 * (end - start))

    def _is_done(self, image_file: ImageFile, stamp: Stamp | None) -> bool:
        is_unchanged = stamp is not None and stamp == resume.stamp_of(image_file.path)
        return is_unchanged and (self._drawn_in is None or (self._drawn_in / image_file.drawn_name).is_file())

    def _kept_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        kept = self._kept_entries.get(entry["image"])
        return entry if kept is None else json.loads(kept)


def _write_results(
    json_file: Path, document: dict[str, Any], settings: Mapping[str, Any], stamps: Mapping[str, Stamp]
) -> None:
    """Write every file with the results of the whole run: poses.json, and the record that resuming needs."""
    make_folder(json_file.parent)
    resume.write(json_file, native.to_text(document).encode(), settings, stamps)


def make_folder(folder: Path) -> None:
    """Create a folder for results and its parents; InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}). Choose another --out.") from None
