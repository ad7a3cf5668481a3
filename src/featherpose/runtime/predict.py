"""Inference on image files and folders: the work of the command `predict`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files, images, weights
from featherpose.boxes import check_boxes, whole_image_box
from featherpose.draw import draw
from featherpose.errors import InputError, with_name
from featherpose.formats import native, person_boxes
from featherpose.formats.person_boxes import Boxes, PersonBoxes
from featherpose.poses import Poses
from featherpose.runtime.estimator import Estimator
from featherpose.size import Size

AnyPath = str | os.PathLike[str]

_KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


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
        return name.as_posix() if name.suffix.lower() in _KEPT_SUFFIXES else name.with_suffix(".jpg").as_posix()


BoxLookup = Callable[[ImageFile, Size], Boxes]
"""Image and its size -> its boxes and their scores."""


@dataclass(frozen=True)
class Report:
    """The outcome: poses by image name, in order; one line per failure; the JSON file and its content; the device and
    the number of threads."""

    poses: dict[str, Poses]
    failures: list[str]
    json_file: Path
    document: dict[str, Any]
    device: str
    threads: int


def predict(
    sources: Iterable[AnyPath],
    *,
    model: AnyPath = "default",
    boxes: AnyPath | dict[str, Any] | list[Any] | None = None,
    whole_image: bool = False,
    out: AnyPath = "out",
    json_file: AnyPath | None = None,
    device: str = "auto",
    flip_test: bool = False,
    refine: bool = False,
    draw_images: bool = True,
    score_threshold: float = 0.3,
    max_pixels: int = images.MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Image files and folders -> poses of the persons on them; drawn images and poses.json in `out`.

    The person boxes come from `boxes`, a JSON file or its content (`formats.person_boxes`), or `whole_image` says that
    every image shows one person. An image that fails is listed in the failures; the others are processed. After an
    interrupt, poses.json contains the images done so far. `flip_test` and `refine` are options of `Estimator`.
    `progress` is called with the number of images done and the total.
    """
    boxes_of = _box_lookup(boxes, whole_image)
    out, json_file = Path(out), Path(json_file or Path(out) / "poses.json")
    image_files, failures = find_images(sources, out)
    _check_overwriting(image_files, out, json_file)
    estimator = Estimator.open(weights.find(model), device, flip_test=flip_test, refine=refine)
    poses: dict[str, Poses] = {}
    # The estimator reads a few images ahead; `tee` holds those whose poses are not there yet.
    usable, first, second = tee(_usable(image_files, boxes_of, max_pixels, failures), 3)
    found = estimator.estimate_all((image.pixels for image in first), (image.boxes_xyxy for image in second))
    try:
        for image_poses, image in zip(found, usable, strict=True):
            if progress:
                progress(image.index, len(image_files))
            scored = replace(image_poses, box_scores=image.box_scores)
            try:
                if draw_images:
                    _write(out / image.file.drawn_name, draw(image.pixels, scored, score_threshold=score_threshold))
                poses[image.file.name] = scored
            except InputError as error:
                failures.append(with_name(image.file.path, error))
        if progress:
            progress(len(image_files), len(image_files))
    finally:
        manifest = estimator.manifest
        document = native.to_document(poses, manifest.skeleton, manifest.network)
        _write_json(json_file, document)
    return Report(poses, failures, json_file, document, estimator.session.device, estimator.session.threads)


@dataclass(frozen=True, eq=False)
class _Usable:
    """An image that has been read, its boxes (N, 4) and their scores (N,), and its index among all."""

    index: int
    file: ImageFile
    pixels: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    box_scores: NDArray[np.float32]


def _usable(
    image_files: Sequence[ImageFile], boxes_of: BoxLookup, max_pixels: int, failures: list[str]
) -> Iterator[_Usable]:
    """Image files -> those that can be used; for each of the others a line is added to `failures`."""
    for index, image_file in enumerate(image_files):
        try:
            pixels = images.read(image_file.path, max_pixels=max_pixels)
            size = Size(height=pixels.shape[0], width=pixels.shape[1])
            boxes, scores = boxes_of(image_file, size)
            usable = _Usable(index, image_file, pixels, check_boxes(boxes, size), scores)
        except InputError as error:
            failures.append(with_name(image_file.path, error))
        else:
            yield usable


def find_images(sources: Iterable[AnyPath], out: Path) -> tuple[list[ImageFile], list[str]]:
    """Files and folders (searched recursively, by suffix) -> images in a fixed order, and the failures.

    A file that is given several times is used once. Results of an earlier run, inside `out`, are not used.
    """
    seen: set[Path] = set()
    taken: set[str] = set()
    image_files: list[ImageFile] = []
    failures: list[str] = []
    for source in map(Path, sources):
        found = _in_folder(source, out) if source.is_dir() else [(source, source.name)]
        if not found:
            failures.append(f"{source}: no image in this folder. Looked for {' '.join(images.SUFFIXES)}.")
        for path, name in found:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                image_files.append(_named(path, name, taken))
    name_counts = Counter(image_file.path.name for image_file in image_files)
    return [
        replace(image_file, unique_filename=name_counts[image_file.path.name] == 1) for image_file in image_files
    ], failures


def _in_folder(folder: Path, out: Path) -> list[tuple[Path, str]]:
    """Images in the folder, recursively, with their relative names; hidden ones and those inside `out` are skipped."""
    results = out.resolve() if out.resolve() != folder.resolve() else None
    found: list[tuple[Path, str]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        skipped = any(part.startswith(".") for part in name.parts) or results in path.resolve().parents
        if path.suffix.lower() in images.SUFFIXES and not skipped and path.is_file():
            found.append((path, name.as_posix()))
    return found


def _named(path: Path, name: str, taken: set[str]) -> ImageFile:
    """The second image of a name gets the result name NAME-2. Some file systems treat A.jpg and a.jpg as the same."""
    image_file, number = ImageFile(path, name), 2
    while image_file.drawn_name.lower() in taken:
        image_file = ImageFile(path, Path(name).with_stem(f"{Path(name).stem}-{number}").as_posix())
        number += 1
    taken.add(image_file.drawn_name.lower())
    return image_file


def _box_lookup(boxes: AnyPath | dict[str, Any] | list[Any] | None, whole_image: bool) -> BoxLookup:
    """The options `boxes` and `whole_image` -> a function from an image and its size to its boxes and their scores."""
    if boxes is None and not whole_image:
        raise InputError(
            "This version has no person detector: type --boxes FILE (JSON, see featherpose predict --help), or"
            " --whole-image if every image shows one person."
        )
    if boxes is None:
        return lambda _, size: (whole_image_box(size), np.ones(1, np.float32))
    if whole_image:
        raise InputError("--boxes and --whole-image contradict each other: leave one out.")
    if isinstance(boxes, dict | list):
        boxes_name = "the boxes"
        known_boxes = person_boxes.from_json(boxes)
    else:
        boxes_name = str(boxes)
        known_boxes = person_boxes.read(Path(boxes), "Check the path after --boxes.")
    return lambda image_file, _: _boxes_of(image_file, known_boxes, boxes_name)


def _boxes_of(image_file: ImageFile, known_boxes: PersonBoxes, file: str) -> Boxes:
    for name in (image_file.name, image_file.path.as_posix()):
        found = known_boxes.of(name, whole_name=not image_file.unique_filename)
        if found is not None:
            return found
    raise InputError(f'{image_file.path}: no entry in {file}. Add "{image_file.name}": [] if it contains no person.')


def _check_overwriting(image_files: list[ImageFile], out: Path, json_file: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, wanted a folder for the results. Choose another --out.")
    originals = {image_file.path.resolve() for image_file in image_files}
    for result in (json_file, *(out / image_file.drawn_name for image_file in image_files)):
        if result.resolve() in originals:
            raise InputError(f"{result}: the result would overwrite the input image. Choose another --out.")


def _write(path: Path, image: Any) -> None:
    _make_folder(path.parent)
    images.write(path, image)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    _make_folder(path.parent)
    files.replace(path, native.to_text(document).encode())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}). Choose another --out.") from None
