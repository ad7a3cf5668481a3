"""Drawing poses on an image: limbs colored by side, with a dark outline, visible on light and on dark backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

OUTLINE_COLOR = (18, 18, 24)
KEYPOINT_COLOR = (250, 250, 250)
LOW_SCORE_OPACITY = 0.4
"""Opacity of keypoints and limbs whose score is below the threshold."""

_SHIFT = 6  # OpenCV takes coordinates as integers, in units of 1/64 pixel

Point = NDArray[np.float64]


@dataclass(frozen=True)
class _Stroke:
    """A line with round ends, `width` pixels wide; a dot is a line whose start and end are equal."""

    start: Point
    end: Point
    width: float
    color: tuple[int, int, int]

    def outline(self) -> _Stroke:
        return _Stroke(self.start, self.end, self.width + max(0.6, 0.5 * self.width), OUTLINE_COLOR)


def draw(image: NDArray[np.uint8], poses: Poses, *, score_threshold: float = 0.3) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) and its poses -> a copy of the image with all poses drawn on it.

    Keypoints below `score_threshold` and limbs that end in one are thin and faint; keypoints with a score of 0 or less
    are not drawn. Small persons are drawn over large ones. InputError when the image is not RGB uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"The image is {image.dtype} {image.shape}, wanted uint8 (height, width, 3) in RGB order.")
    canvas = image.copy()
    present: NDArray[np.bool_] = np.isfinite(poses.keypoints).all(axis=2) & (poses.scores > 0)
    visible_persons = [i for i in range(len(poses)) if present[i].any()]
    extents = {i: float(np.ptp(poses.keypoints[i][present[i]], axis=0).max()) for i in visible_persons}
    for i in sorted(visible_persons, key=lambda i: -extents[i]):
        width = _line_width(extents[i], max(image.shape[:2]))
        points = poses.keypoints[i].astype(np.float64)
        confident = poses.scores[i] >= score_threshold
        # Faint strokes first: what is certain lies on top.
        faint = _strokes(points, present[i], poses.skeleton, width, drop=confident, scale=0.6)
        _draw_strokes(canvas, faint, LOW_SCORE_OPACITY)
        clear = _strokes(points, present[i] & confident, poses.skeleton, width)
        _draw_strokes(canvas, clear, 1.0)
    return canvas


def _line_width(extent: float, image_side: float) -> float:
    """Proportional to the person, within limits that keep lines visible and thin when the image fills a screen."""
    return float(np.clip(0.018 * extent, max(0.0016 * image_side, 0.7), 0.006 * image_side + 0.7))


def _strokes(
    points: Point,
    present: NDArray[np.bool_],
    skeleton: Skeleton,
    width: float,
    drop: NDArray[np.bool_] | None = None,
    scale: float = 1.0,
) -> list[_Stroke]:
    """Keypoints (K, 2) of one person -> strokes in drawing order: outlines and limbs, then outlines and keypoints.

    Keypoints in `drop` and limbs between two of them are left to the other drawing pass.
    """
    drop = np.zeros(len(points), bool) if drop is None else drop
    dots: dict[int, float] = {}
    limbs: list[_Stroke] = []
    for (a, b), color in zip(skeleton.limbs, skeleton.colors, strict=True):
        if present[a] and present[b]:
            # A short limb gets a thinner line, so that the face is not covered.
            length = np.linalg.norm(points[a] - points[b])
            fine = float(np.clip(0.2 * length, 0.45 * width, width))
            # A keypoint is as large as the widest of its limbs.
            for keypoint in (a, b):
                dots[keypoint] = max(fine, dots.get(keypoint, 0))
            if not (drop[a] and drop[b]):
                limbs.append(_Stroke(points[a], points[b], scale * fine, color))
    spots: list[_Stroke] = []
    for i, point in enumerate(points):
        if present[i] and not drop[i]:
            spots.append(_Stroke(point, point, 1.5 * scale * dots.get(i, width), KEYPOINT_COLOR))
    # All outlines before all limbs: an outline would otherwise cut through the limbs drawn before it.
    limb_outlines = [limb.outline() for limb in limbs]
    spot_outlines = [spot.outline() for spot in spots]
    return [*limb_outlines, *limbs, *spot_outlines, *spots]


def _draw_strokes(canvas: NDArray[np.uint8], strokes: list[_Stroke], opacity: float) -> None:
    """Draw strokes on the canvas, in place. Thin ones are drawn enlarged and averaged down, because OpenCV's line
    widths are integers."""
    if not strokes:
        return
    widths = [stroke.width for stroke in strokes]
    zoom = int(np.clip(np.ceil(5 / min(widths)), 1, 6))  # the thinnest line is at least 5 wide, if 6 times is enough
    ends = np.array([end for stroke in strokes for end in (stroke.start, stroke.end)])  # (2 n, 2)
    # Only the region of the person is drawn enlarged, not the image.
    margin = max(widths) / 2 + 2
    limit = (canvas.shape[1], canvas.shape[0])
    left, top = np.clip(np.floor(ends.min(axis=0) - margin), 0, limit).astype(int).tolist()
    right, bottom = np.clip(np.ceil(ends.max(axis=0) + margin), 0, limit).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    layer = np.zeros(((bottom - top) * zoom, (right - left) * zoom, 4), np.uint8)  # color x opacity, and opacity
    for stroke in strokes:
        line = np.stack([stroke.start, stroke.end]) - (left, top)
        # Pixel centers have integer coordinates before and after enlarging.
        start, end = ((line + 0.5) * zoom - 0.5) * (1 << _SHIFT)
        color = (*stroke.color, 255)
        thickness = max(1, round(stroke.width * zoom))
        cv2.line(layer, _to_int(start), _to_int(end), color, thickness, cv2.LINE_AA, _SHIFT)
    if zoom > 1:
        layer = cv2.resize(layer, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    under = canvas[top:bottom, left:right]
    touched = layer[..., 3] > 0  # a few percent of the region
    paint = layer[touched].astype(np.float32) * opacity
    transparency = 1 - paint[:, 3:] / 255
    under[touched] = np.rint(paint[:, :3] + under[touched] * transparency).astype(np.uint8)


def _to_int(point: Point) -> tuple[int, int]:
    # OpenCV takes 32-bit integers; a keypoint far outside the image must not overflow.
    x, y = np.clip(np.rint(point), -(1 << 30), 1 << 30)
    return int(x), int(y)
