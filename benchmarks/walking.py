"""Generated clips: people walk, cross, and hide for some frames; `tracking` scores ids on them, `video` measures speed.

Each person is a box of the example image. All is a function of the seed. Who is where in each frame, and how much of
each person can be seen, is known exactly; the keypoints are those that the model `accurate` finds in the example image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from featherpose import examples, images, weights
from featherpose.boxes import overlap_of_first
from featherpose.poses import Poses
from featherpose.runtime.estimator import Estimator
from featherpose.size import Size

SIZE = Size(height=720, width=1280)
RATES = (10, 15, 25, 30, 60)
"""Frames per second: each seed modulo 5 has one."""
SECONDS = 8.0
MIN_VISIBLE = 0.3
"""A person of whom less can be seen is not in the truth of a frame."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cutout:
    """The box of a person in the example image: RGB uint8 (H, W, 3), and the pose (N = 1) in its pixels."""

    pixels: NDArray[np.uint8]
    pose: Poses


@dataclass(frozen=True, eq=False)
class Walker:
    """A person of a scene: the box in each of F frames, and whether the person is there, not hidden, not gone."""

    cutout: Cutout
    boxes_xyxy: Array
    """(F, 4)."""
    is_there: NDArray[np.bool_]
    """(F,)."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Who can be seen in a frame: ids (N,), indices of walkers; boxes (N, 4); the visible fraction of each (N,)."""

    ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    visible: Array


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip: its people from back to front, and frames per second."""

    walkers: tuple[Walker, ...]
    rate: float
    size: Size = SIZE

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.walkers[0].is_there)

    def truth(self, frame: int) -> Truth:
        """Index of a frame -> who can be seen in it."""
        there = np.array([w for w, walker in enumerate(self.walkers) if walker.is_there[frame]], np.int64)
        boxes = np.array([self.walkers[w].boxes_xyxy[frame] for w in there], np.float32).reshape(-1, 4)
        inside = np.clip(boxes, 0, np.tile(self.size.xy, 2)).astype(np.float32)
        whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        in_frame = np.prod(inside[:, 2:] - inside[:, :2], axis=1) / whole
        # Those in front cover parts of those behind; where two of them overlap, a bit too much is counted.
        covered = np.triu(overlap_of_first(inside, inside), 1).sum(axis=1)
        visible = in_frame * np.clip(1 - covered, 0, 1)
        seen = visible >= MIN_VISIBLE
        return Truth(there[seen], inside[seen], visible[seen])

    def keypoints(self, person: int, frame: int) -> Array:
        """Id and index of a frame -> (K, 2) keypoints in its pixels."""
        walker = self.walkers[person]
        height, width = walker.cutout.pixels.shape[:2]
        left, top, right, bottom = walker.boxes_xyxy[frame]
        return walker.cutout.pose.keypoints[0] * ((right - left) / width, (bottom - top) / height) + (left, top)

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Index of a frame -> RGB uint8 (H, W, 3)."""
        canvas = background(self.size).copy()
        for walker in self.walkers:
            if walker.is_there[frame]:
                paste(canvas, walker.cutout.pixels, walker.boxes_xyxy[frame])
        return canvas


def make_scene(seed: int, num_people: int | None = None, rate: float | None = None) -> Scene:
    """Seed -> a scene of `SECONDS` with three to six people, or `num_people`, with speeds of 0.2 to 2 of their sizes a
    second. Each hides once or twice for 5 to 30 frames, and in three of ten cases turns round meanwhile."""
    rng = np.random.default_rng(seed)
    rate = rate or RATES[seed % len(RATES)]
    number = num_people or int(rng.integers(3, 7))
    walkers = [make_walker(rng, rate) for _ in range(number)]
    # Who is nearer to the camera stands lower in the image, and in front.
    return Scene(tuple(sorted(walkers, key=lambda walker: walker.boxes_xyxy[0, 3])), rate)


def make_walker(rng: np.random.Generator, rate: float) -> Walker:
    """A person with a random way through the scene."""
    num_frames = round(SECONDS * rate)
    people = cutouts()
    cutout = people[int(rng.integers(len(people)))]
    hidden, turns = draw_pauses(rng, num_frames)
    first = 0 if rng.random() < 0.6 else int(rng.uniform(0, 0.4) * num_frames)
    leaves = rng.random() < 0.3
    height = rng.uniform(180, 420)
    aspect = cutout.pixels.shape[1] / cutout.pixels.shape[0]
    size = height * np.sqrt(aspect)
    speed = rng.choice((-1, 1)) * size * np.exp(rng.uniform(np.log(0.2), np.log(2.0)))
    growth = np.exp(rng.uniform(-0.2, 0.2) * np.arange(num_frames) / num_frames)
    bob = 0.02 * height * np.sin(2 * np.pi * (2 * np.arange(num_frames) / rate + rng.random()))
    bottom = 0.45 * SIZE.height + 0.5 * height + rng.uniform(-0.05, 0.1) * SIZE.height
    center = rng.uniform(0.1, 0.9) * SIZE.width
    boxes = np.zeros((num_frames, 4))
    is_there = np.arange(num_frames) >= first
    is_gone = False
    for frame in range(num_frames):
        if frame in turns:
            speed = -speed
        at_border = (center < 0 and speed < 0) or (center > SIZE.width and speed > 0)
        if at_border and not leaves:
            speed = -speed
        center += speed / rate * (1 + 0.3 * np.sin(frame / rate))
        tall = height * growth[frame]
        wide = tall * aspect
        boxes[frame] = (center - wide / 2, bottom - tall + bob[frame], center + wide / 2, bottom + bob[frame])
        is_gone = is_gone or (leaves and not -wide < center < SIZE.width + wide)
        is_there[frame] &= not is_gone
    return Walker(cutout, boxes, is_there & ~hidden)


def draw_pauses(rng: np.random.Generator, num_frames: int) -> tuple[NDArray[np.bool_], set[int]]:
    """When a person hides (F,), and the frames in which the person turns round meanwhile."""
    hidden = np.zeros(num_frames, bool)
    turns: set[int] = set()
    for _ in range(int(rng.integers(1, 3))):
        length = int(rng.integers(5, 31))
        start = int(rng.integers(0.1 * num_frames, num_frames - length))
        hidden[start : start + length] = True
        if rng.random() < 0.3:
            turns.add(start + length // 2)
    return hidden, turns


@cache
def cutouts() -> tuple[Cutout, ...]:
    """The three people of the example image."""
    image = images.read(examples.find("people.jpg"))
    boxes = json.loads(examples.find("boxes.json").read_text(encoding="utf-8"))["people.jpg"]
    estimator = Estimator.open(weights.find("accurate"), "cpu", 1)
    areas = [image[top:bottom, left:right] for left, top, right, bottom in boxes]
    return tuple(Cutout(area, estimator(area, whole_image=True)) for area in areas)


@cache
def background(size: Size) -> NDArray[np.uint8]:
    """Smooth noise in RGB, (H, W, 3)."""
    coarse = np.random.default_rng(0).uniform(90, 160, (9, 16, 3)).astype(np.float32)
    return cv2.resize(coarse, size.xy, interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def paste(canvas: NDArray[np.uint8], pixels: NDArray[np.uint8], box: Array) -> None:
    """RGB uint8 (H, W, 3) -> drawn into a box of the canvas, in place; parts outside are cut off."""
    left, top, right, bottom = np.rint(box).astype(int).tolist()
    scaled = cv2.resize(pixels, (max(1, right - left), max(1, bottom - top)), interpolation=cv2.INTER_AREA)
    x = slice(max(left, 0), min(right, canvas.shape[1]))
    y = slice(max(top, 0), min(bottom, canvas.shape[0]))
    if x.start < x.stop and y.start < y.stop:
        canvas[y, x] = scaled[y.start - top : y.stop - top, x.start - left : x.stop - left]
