"""Whether records mean what their form says: counted warnings about files that are read without error and still wrong.

A file may hold parts of the image in place of pixels, or the box's other corner in place of its size. Each check of
`CHECKS` looks at all persons of a file. It warns from 0.5 % of them on, in files with fewer than a hundred from three
on, and below three where it is true of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.records import ImageRecord, PersonRecord
from featherpose.size import Size

SHARE = 0.005
"""Share of the persons of a file from which on a check warns."""
FEW = 100
"""In smaller files a check warns from `MIN_NUMBER` persons on."""
MIN_NUMBER = 3
SMALLEST_BOX = 2.0
"""Side in pixels: no keypoint can be told from another in a smaller box."""
LARGEST_BOX = 10.0
"""Side of a box as a multiple of the image's side."""
LARGE = 400
"""Shorter side in pixels of an image in which coordinates up to 100 may be percent."""
BEYOND = 0.02
"""Part of the image's side by which a box must reach beyond it to count as reaching beyond."""


@dataclass(frozen=True, eq=False)
class Columns:
    """N persons as arrays; nan where a number is not known."""

    boxes_xywh: NDArray[np.float64]
    """(N, 4), nan where it was computed from the keypoints."""
    sizes: NDArray[np.float64]
    """(N, 2) width and height of each person's image."""
    keypoints: NDArray[np.float64]
    """(N, K, 2), nan where not labeled."""

    @classmethod
    def of(cls, images: Sequence[ImageRecord], persons: Sequence[PersonRecord]) -> Columns:
        """Persons and their images -> the arrays; K is the largest number of keypoints."""
        unknown = np.full(4, np.nan)
        sizes = [images[person.image].size for person in persons]
        num_keypoints = max((len(p.keypoints) for p in persons if p.keypoints is not None), default=0)
        values = np.zeros((len(persons), num_keypoints, 3))
        for row, person in enumerate(persons):
            if person.keypoints is not None:
                values[row, : len(person.keypoints)] = person.keypoints
        return cls(
            boxes_xywh=np.array(
                [unknown if p.box_xywh is None or p.box_is_computed else p.box_xywh for p in persons], np.float64
            ).reshape(-1, 4),
            sizes=np.array([size.xy if size else unknown[:2] for size in sizes], np.float64).reshape(-1, 2),
            keypoints=np.where(values[..., 2:] > 0, values[..., :2], np.nan),
        )

    @property
    def num_labeled(self) -> NDArray[np.int64]:
        """(N,) labeled keypoints."""
        return np.isfinite(self.keypoints[..., 0]).sum(axis=1)


Wrong = Callable[[Columns], NDArray[np.bool_]]
"""N persons -> (N,) whether each looks wrong."""


@dataclass(frozen=True)
class Check:
    """One kind of mistake."""

    name: str
    wrong: Wrong
    sentence: str
    """What is said about the persons it is true of, behind their number."""
    share: float = SHARE


def normalized_boxes(columns: Columns) -> NDArray[np.bool_]:
    """All numbers of the box are between 0 and 1, more or less."""
    low = columns.boxes_xywh[:, :2]
    high = low + columns.boxes_xywh[:, 2:]
    return np.all((low > -0.2) & (high < 1.2), axis=1)


def normalized_keypoints(columns: Columns) -> NDArray[np.bool_]:
    """At least two keypoints are labeled, all between 0 and 1."""
    inside = (columns.keypoints >= 0) & (columns.keypoints <= 1)
    outside = np.isfinite(columns.keypoints) & ~inside
    return (columns.num_labeled >= 2) & ~outside.any(axis=(1, 2))


def corners_as_sizes(columns: Columns) -> NDArray[np.bool_]:
    """The box reaches beyond the image, and would be inside it if its last two numbers were its other corner."""
    low = columns.boxes_xywh[:, :2]
    last = columns.boxes_xywh[:, 2:]
    edge = (1 + BEYOND) * columns.sizes
    return np.any(low + last > edge, axis=1) & np.all((last > low) & (last <= edge), axis=1)


def at_origin(columns: Columns) -> NDArray[np.bool_]:
    """A keypoint is labeled at (0, 0) or (-1, -1), where tools put those that are not labeled."""
    at = columns.keypoints
    return np.any(np.all(at == 0, axis=2) | np.all(at == -1, axis=2), axis=1)


def percent(columns: Columns) -> NDArray[np.bool_]:
    """All numbers are between 0 and 100, not all between 0 and 1, in an image that is several times as large."""
    high = columns.boxes_xywh[:, :2] + columns.boxes_xywh[:, 2:]
    points = columns.keypoints.reshape(len(high), -1)
    numbers = np.concatenate([columns.boxes_xywh[:, :2], high, points], axis=1)
    outside = (numbers < -1) | (numbers > 101)
    is_large = columns.sizes.min(axis=1) > LARGE
    # A few persons may all be in the corner.
    return ~outside.any(axis=1) & (numbers > 2).any(axis=1) & is_large & (len(numbers) >= MIN_NUMBER)


def centers_as_corners(columns: Columns) -> NDArray[np.bool_]:
    """Keypoints lie outside the box, and would be inside it if its first two numbers were its center."""
    is_labeled = np.isfinite(columns.keypoints)
    low = np.where(is_labeled, columns.keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(is_labeled, columns.keypoints, -np.inf).max(axis=1, initial=-np.inf)
    first = columns.boxes_xywh[:, :2]
    sides = columns.boxes_xywh[:, 2:]
    margin = 0.1 * sides.max(axis=1, keepdims=True)
    fits = np.all((low >= first - sides / 2 - margin) & (high <= first + sides / 2 + margin), axis=1)
    return fits & np.any(low < first - sides / 4, axis=1) & (columns.num_labeled >= 3)


def far_from_box(columns: Columns) -> NDArray[np.bool_]:
    """A labeled keypoint is farther from the box than the box's longer side."""
    low = columns.boxes_xywh[:, None, :2]
    high = low + columns.boxes_xywh[:, None, 2:]
    distance = np.maximum(low - columns.keypoints, columns.keypoints - high)
    longer_side = columns.boxes_xywh[:, 2:].max(axis=1)[:, None, None]
    return np.any(distance > longer_side, axis=(1, 2))


def in_one_place(columns: Columns) -> NDArray[np.bool_]:
    """At least three keypoints are labeled, all at the same place."""
    if not columns.keypoints.size:
        return np.zeros(len(columns.keypoints), bool)
    first = np.isfinite(columns.keypoints[..., 0]).argmax(axis=1)
    reference = columns.keypoints[np.arange(len(columns.keypoints)), first][:, None]
    elsewhere = np.isfinite(columns.keypoints) & (np.abs(columns.keypoints - reference) > 0.01)
    return (columns.num_labeled >= 3) & ~elsewhere.any(axis=(1, 2))


def tiny_boxes(columns: Columns) -> NDArray[np.bool_]:
    """A side of the box is shorter than two pixels."""
    return np.any(columns.boxes_xywh[:, 2:] < SMALLEST_BOX, axis=1)


def huge_boxes(columns: Columns) -> NDArray[np.bool_]:
    """A side of the box is longer than ten of the image's."""
    return np.any(columns.boxes_xywh[:, 2:] > LARGEST_BOX * columns.sizes, axis=1)


CHECKS = (
    Check(
        "normalized boxes",
        normalized_boxes,
        "boxes are between 0 and 1: parts of the image in place of pixels? Multiply them by its width and height",
    ),
    Check(
        "normalized keypoints",
        normalized_keypoints,
        "persons have all keypoints between 0 and 1: parts of the image in place of pixels? Multiply them by its width"
        " and height",
    ),
    Check(
        "corners as sizes",
        corners_as_sizes,
        "boxes reach beyond their image: left, top, right, bottom in place of left, top, width, height? Subtract left"
        " and top from the last two numbers",
        share=0.5,
    ),
    Check(
        "percent",
        percent,
        "persons are between 0 and 100, in images that are far larger: percent of the image in place of pixels?"
        " Multiply them by its width and height, and divide by 100",
        share=1.0,
    ),
    Check(
        "centers as corners",
        centers_as_corners,
        "persons have keypoints above or left of their box: its center in place of left and top? Subtract half of its"
        " width and height",
        share=0.5,
    ),
    Check(
        "at the origin",
        at_origin,
        "persons have a keypoint that is labeled at (0, 0) or (-1, -1): not labeled? Set its v to 0",
    ),
    Check(
        "far from the box",
        far_from_box,
        "persons have a labeled keypoint far outside their box: other units, or the box of another person?",
    ),
    Check(
        "in one place",
        in_one_place,
        "persons have all labeled keypoints in one place: is the order x, y, v?",
    ),
    Check("tiny boxes", tiny_boxes, "boxes have a side under two pixels: other units, or a click in place of a box?"),
    Check("huge boxes", huge_boxes, "boxes are more than ten times as large as their image: other units?"),
)


def warnings_about(
    images: Sequence[ImageRecord], persons: Sequence[PersonRecord], *, strict: bool = False
) -> list[str]:
    """The images and persons of a file -> a warning for each check that finds enough of them.

    `strict`: InputError in place of warnings.
    """
    if not persons:
        return []
    columns = Columns.of(images, persons)
    found: list[str] = []
    with np.errstate(invalid="ignore"):  # comparisons with nan are false, as they should be
        for check in CHECKS:
            wrong = np.flatnonzero(check.wrong(columns))
            if len(wrong) >= threshold(len(persons), check.share):
                first = persons[int(wrong[0])]
                place = f"first {first.place}, {images[first.image].name}"
                found.append(f"{len(wrong)} of {len(persons)} {check.sentence} ({place}).")
    if strict and found:
        raise InputError(f"{' '.join(found)} Correct the file, or leave out --strict.")
    return found


def threshold(count: int, share: float = SHARE) -> float:
    """Number of persons -> how many of them a check must be true of for a warning."""
    return max(share * count, 1e-9 if count >= FEW else min(MIN_NUMBER, count))


def size_difference(name: str, size: Size, annotated: Size) -> str:
    """An image whose file has another size than is annotated -> the message, with the likely reason."""
    swapped = (size.height, size.width) == (annotated.width, annotated.height)
    reason = " The sides are exchanged: by the tool, or because it ignores the EXIF orientation." if swapped else ""
    return f"{name}: the image has {size} pixels, but is annotated with {annotated}.{reason}"
