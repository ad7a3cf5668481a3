"""Drawing poses on an image: limbs colored by side, with a dark outline, visible on light and on dark backgrounds;
boxes and labels on request."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

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

FAINT_SCALE = 0.6
"""Width of faint strokes, relative to the others."""
MIN_DASH = 4.0
"""Length of a dash with its gap, at least, in pixels: shorter ones would look like a solid line."""
MAX_DASHES = 1000
"""Dashes of one limb, at most: an unsure keypoint can lie far outside the image."""
BOX_LINE = 0.0012
"""Width of the lines of boxes, relative to the longer side of the image."""
LETTER = 0.011
"""Height of a capital letter in labels, relative to the longer side of the image."""
MIN_LETTER = 8.0
"""Smallest height of a capital letter that is legible, in pixels."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_THICK = 2.0  # thinner strokes are drawn enlarged
_EDGE = 1.3  # by so many pixels OpenCV's antialiased polygons are too wide
_SHIFT = 6  # OpenCV takes coordinates as integers, in units of 1/64 pixel
_HALF_TURNS = np.linspace(-np.pi / 2, np.pi / 2, 5) + np.array([[0], [np.pi]])
"""(2, V) directions of the corners of both round ends of a stroke, relative to its own."""

Point = NDArray[np.float64]


class _Stroke(NamedTuple):
    """A line with round ends, `width` pixels wide; a dot is a line whose start and end are equal."""

    start: Point
    end: Point
    width: float
    color: tuple[int, int, int]

    def outline(self) -> _Stroke:
        return _Stroke(self.start, self.end, self.width + max(0.6, 0.5 * self.width), OUTLINE_COLOR)


def draw(
    image: NDArray[np.uint8],
    poses: Poses,
    *,
    score_threshold: float = 0.3,
    boxes: bool = False,
    ids: bool = False,
) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) and its poses -> a copy of the image with all poses drawn on it.

    Keypoints below `score_threshold`, and interpolated ones, are small and faint, limbs that end in one are faint and
    dashed; keypoints with a score of 0 or less are not drawn. Small persons are drawn over large ones. InputError when
    the image is not RGB uint8.

    Args:
        boxes: draw the boxes of the persons.
        ids: label each person with the id, where persons were tracked, and the person score.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"The image is {image.dtype} {image.shape}, wanted uint8 (height, width, 3) in RGB order.")
    canvas = image.copy()
    if boxes:
        _draw_boxes(canvas, poses)
    _draw_persons(canvas, poses, score_threshold)
    if ids:
        _draw_labels(canvas, poses)
    return canvas


def _draw_persons(canvas: NDArray[np.uint8], poses: Poses, score_threshold: float) -> None:
    present: NDArray[np.bool_] = np.isfinite(poses.keypoints).all(axis=2) & (poses.scores > 0)
    visible_persons = [i for i in range(len(poses)) if present[i].any()]
    extents = {i: float(np.ptp(poses.keypoints[i][present[i]], axis=0).max()) for i in visible_persons}
    for i in sorted(visible_persons, key=lambda i: -extents[i]):
        width = _line_width(extents[i], max(canvas.shape[:2]))
        points = poses.keypoints[i].astype(np.float64)
        confident = poses.scores[i] >= score_threshold
        if poses.interpolated is not None:
            # Who is hidden in a frame of a video is not drawn like those who are seen.
            confident &= ~poses.interpolated[i]
        # Faint strokes first: what is certain lies on top.
        _draw_faint(canvas, _faint_strokes(points, present[i], confident, poses.skeleton, width))
        _draw_strokes(canvas, _strokes(points, present[i] & confident, poses.skeleton, width))


def _draw_boxes(canvas: NDArray[np.uint8], poses: Poses) -> None:
    height, width = canvas.shape[:2]
    thickness = max(1, round(BOX_LINE * max(height, width)))
    # A dark edge on one side of the line is enough on white, and leaves room in a thumbnail.
    shadow = max(1, thickness // 3)
    # A side outside the image stays outside; OpenCV takes 32-bit integers.
    low = np.array([-2 * thickness, -2 * thickness] * 2)
    high = np.array([width + 2 * thickness, height + 2 * thickness] * 2)
    for box in poses.boxes_xyxy[np.isfinite(poses.boxes_xyxy).all(axis=1)]:
        left, top, right, bottom = np.clip(np.rint(box), low, high).astype(int).tolist()
        for color, shift in ((OUTLINE_COLOR, shadow), (KEYPOINT_COLOR, 0)):
            cv2.rectangle(canvas, (left + shift, top + shift), (right + shift, bottom + shift), color, thickness)


def _draw_labels(canvas: NDArray[np.uint8], poses: Poses) -> None:
    """Label at the top left of each box: above it, moved into the image and below labels that are there already."""
    height, width = canvas.shape[:2]
    taken: list[tuple[int, int, int, int]] = []
    for i in np.flatnonzero(np.isfinite(poses.boxes_xyxy).all(axis=1)).tolist():
        score = f"{poses.person_scores[i]:.2f}"
        label = _label(score if poses.ids is None else f"#{poses.ids[i]} {score}", width, height)
        label_height, label_width = label.shape[:2]
        left = int(np.clip(poses.boxes_xyxy[i, 0], 0, width - label_width))
        top = int(np.clip(poses.boxes_xyxy[i, 1] - label_height, 0, height - label_height))
        for other_left, other_top, other_right, other_bottom in sorted(taken, key=lambda other: other[1]):
            beside = left >= other_right or left + label_width <= other_left
            if not beside and other_top - label_height < top < other_bottom:
                top = min(other_bottom, height - label_height)
        taken.append((left, top, left + label_width, top + label_height))
        canvas[top : top + label_height, left : left + label_width] = label


def _label(text: str, image_width: int, image_height: int) -> NDArray[np.uint8]:
    """Text -> RGB uint8 (h, w, 3) that fits into the image: light letters on dark, readable on any background."""
    # The height of a capital letter; OpenCV's font is 22 pixels high at scale 1.
    letter = max(MIN_LETTER, LETTER * max(image_width, image_height))
    thickness = max(1, round(letter / 9))
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, letter / 22, thickness)
    margin = round(letter / 3)
    label = np.full((text_height + below // 2 + 2 * margin, text_width + 2 * margin, 3), OUTLINE_COLOR, np.uint8)
    start = (margin, margin + text_height)
    cv2.putText(label, text, start, _FONT, letter / 22, KEYPOINT_COLOR, thickness, cv2.LINE_AA)
    fit = min(1.0, image_width / label.shape[1], image_height / label.shape[0])
    if fit == 1:
        return label
    size = (max(1, int(fit * label.shape[1])), max(1, int(fit * label.shape[0])))
    return cv2.resize(label, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _line_width(extent: float, image_side: float) -> float:
    """Proportional to the person, within limits that keep lines visible and thin when the image fills a screen."""
    return float(np.clip(0.02 * extent, max(0.0016 * image_side, 0.9), 0.006 * image_side + 0.9))


def _limb_widths(points: Point, present: NDArray[np.bool_], skeleton: Skeleton, width: float) -> dict[int, float]:
    """Index of each limb whose two keypoints are present -> its width: a short limb gets a thinner line, so that the
    face is not covered."""
    return {
        n: float(np.clip(0.2 * np.linalg.norm(points[a] - points[b]), 0.45 * width, width))
        for n, (a, b) in enumerate(skeleton.limbs)
        if present[a] and present[b]
    }


def _strokes(points: Point, present: NDArray[np.bool_], skeleton: Skeleton, width: float) -> list[_Stroke]:
    """Keypoints (K, 2) of one person -> strokes in drawing order: outlines and limbs, then outlines and keypoints."""
    widths = _limb_widths(points, present, skeleton, width)
    limbs: list[_Stroke] = []
    for n, fine in widths.items():
        a, b = skeleton.limbs[n]
        limbs.append(_Stroke(points[a], points[b], fine, skeleton.colors[n]))
    spots = _spots(points, present, skeleton, widths, width)
    return [*_with_outlines(limbs), *_with_outlines(spots)]


def _faint_strokes(
    points: Point, present: NDArray[np.bool_], confident: NDArray[np.bool_], skeleton: Skeleton, width: float
) -> list[_Stroke]:
    """The same for the keypoints that are not confident and the limbs that end in one, which are dashed."""
    widths = _limb_widths(points, present, skeleton, width)
    dashes: list[_Stroke] = []
    for n, fine in widths.items():
        a, b = skeleton.limbs[n]
        if not (confident[a] and confident[b]):
            dashes += _dashes(_Stroke(points[a], points[b], FAINT_SCALE * fine, skeleton.colors[n]))
    spots = _spots(points, present & ~confident, skeleton, widths, FAINT_SCALE * width, FAINT_SCALE)
    return [*_with_outlines(dashes), *_with_outlines(spots)]


def _dashes(limb: _Stroke) -> list[_Stroke]:
    """A limb -> its dashes, evenly spaced, none of which touches a keypoint."""
    along = limb.end - limb.start
    length = float(np.linalg.norm(along))
    # With their round ends, dashes cover a bit more than half of the line.
    count = int(np.clip(length / max(5 * limb.width, MIN_DASH), 1, MAX_DASHES))
    margin = min(1.5 * limb.width / length, 0.25) if length else 0.0
    places = margin + (1 - 2 * margin) * (np.arange(count)[:, None] + (0.3, 0.7)) / count  # (count, 2), from 0 to 1
    ends = limb.start + places[..., None] * along  # (count, 2, 2)
    return [_Stroke(start, end, limb.width, limb.color) for start, end in ends]


def _spots(
    points: Point,
    drawn: NDArray[np.bool_],
    skeleton: Skeleton,
    limb_widths: dict[int, float],
    width: float,
    scale: float = 1.0,
) -> list[_Stroke]:
    """The keypoints to be drawn, each as large as the widest of its limbs; `width` for one without limbs."""
    widest: dict[int, float] = {}
    for n, fine in limb_widths.items():
        for keypoint in skeleton.limbs[n]:
            widest[keypoint] = max(scale * fine, widest.get(keypoint, 0))
    rows: list[int] = np.flatnonzero(drawn).tolist()
    return [_Stroke(points[i], points[i], 1.5 * widest.get(i, width), KEYPOINT_COLOR) for i in rows]


def _with_outlines(strokes: list[_Stroke]) -> list[_Stroke]:
    """All outlines before all strokes: an outline would otherwise cut through the strokes drawn before it."""
    return [*(stroke.outline() for stroke in strokes), *strokes]


def _draw_faint(canvas: NDArray[np.uint8], strokes: list[_Stroke]) -> None:
    """Draw strokes with the opacity of those that are not confident, in place."""
    if not strokes:
        return
    rows, columns = _region(canvas, strokes)
    part = canvas[rows, columns]
    if not part.size:
        return
    under = part.copy()
    _draw_strokes(canvas, strokes)
    cv2.addWeighted(part, LOW_SCORE_OPACITY, under, 1 - LOW_SCORE_OPACITY, 0, dst=under)
    canvas[rows, columns] = under


def _draw_strokes(canvas: NDArray[np.uint8], strokes: list[_Stroke]) -> None:
    """Draw opaque strokes on the canvas, in place and in order."""
    for thick, run in groupby(strokes, key=lambda stroke: stroke.width >= _THICK):
        # Thick ones need no layer, which for a person who fills the image would cost most of the time.
        if thick:
            _fill(canvas, list(run), np.zeros(2), 1)
        else:
            _draw_thin(canvas, list(run))


def _draw_thin(canvas: NDArray[np.uint8], strokes: list[_Stroke]) -> None:
    """Draw strokes enlarged on a layer, which is averaged down and put on the canvas: OpenCV's thinnest line is wider
    than a pixel."""
    zoom = int(np.clip(np.ceil(_THICK / min(stroke.width for stroke in strokes)), 1, 6))
    # Only the region of the strokes is drawn enlarged, not the image.
    rows, columns = _region(canvas, strokes)
    height = rows.stop - rows.start
    width = columns.stop - columns.start
    if height <= 0 or width <= 0:
        return
    layer = np.zeros((height * zoom, width * zoom, 4), np.uint8)  # color x opacity, and opacity
    _fill(layer, strokes, np.array([columns.start, rows.start]), zoom)
    layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
    # A few percent of the region; read as one number per pixel, which is faster than a channel.
    y, x = np.nonzero(layer.view(np.uint32)[..., 0])
    paint = layer[y, x].astype(np.float32)
    under = canvas[rows.start + y, columns.start + x]
    mixed = paint[:, :3] + under * (1 - paint[:, 3:] / 255)
    canvas[rows.start + y, columns.start + x] = np.rint(mixed).astype(np.uint8)


def _region(canvas: NDArray[np.uint8], strokes: list[_Stroke]) -> tuple[slice, slice]:
    """Rows and columns of the canvas that strokes can touch; empty where they lie outside."""
    ends = np.array([(stroke.start, stroke.end) for stroke in strokes]).reshape(-1, 2)
    margin = max(stroke.width for stroke in strokes) / 2 + 2
    limit = (canvas.shape[1], canvas.shape[0])
    left, top = np.clip(np.floor(ends.min(axis=0) - margin), 0, limit).astype(int).tolist()
    right, bottom = np.clip(np.ceil(ends.max(axis=0) + margin), 0, limit).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _fill(target: NDArray[np.uint8], strokes: list[_Stroke], origin: Point, zoom: int) -> None:
    """Draw strokes on an array whose top-left pixel is the pixel `origin` of the image, enlarged `zoom` times.

    As polygons, because the widths of OpenCV's lines are integers.
    """
    ends = np.array([(stroke.end, stroke.start) for stroke in strokes]) - origin  # (n, 2, 2)
    # Pixel centers have integer coordinates before and after enlarging.
    ends = (ends + 0.5) * zoom - 0.5
    radii = np.maximum(zoom * np.array([stroke.width for stroke in strokes]) - _EDGE, 0) / 2
    along = ends[:, 0] - ends[:, 1]
    directions = np.arctan2(along[:, 1], along[:, 0])
    angles = directions[:, None, None] + _HALF_TURNS  # (n, 2, V)
    circles = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (n, 2, V, 2)
    corners = ends[:, :, None] + radii[:, None, None, None] * circles
    # OpenCV takes 32-bit integers; a keypoint far outside the image must not overflow.
    polygons = np.clip(np.rint(corners * (1 << _SHIFT)), -(1 << 30), 1 << 30).astype(np.int32)
    for stroke, polygon in zip(strokes, polygons.reshape(len(strokes), -1, 2), strict=True):
        color = (*stroke.color, 255)[: target.shape[2]]
        cv2.fillConvexPoly(target, polygon, color, cv2.LINE_AA, _SHIFT)
