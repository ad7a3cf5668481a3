"""The proof of a wrapped file: the original with its project's own processing in numpy, against the written file.

Pose models: on crops, and on example images with person boxes, from the box to the keypoint in the image. Detectors and
one-stage models: on example images, each processed by both from its own letterbox to points in the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import examples, files, images
from featherpose.errors import ModelError
from featherpose.foreign.family import Array, Candidate, Found, ImageCandidate, Pixels, PoseCandidate
from featherpose.letterbox import Letterbox
from featherpose.manifest import PoseManifest
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.session import Outputs, Session
from featherpose.size import Size

ALLOWED = {"keypoints": 0.05, "boxes": 0.5, "scores": 1e-3}
"""Largest differences: px of the crop or of the image, and scores."""
BORDERLINE = 0.01
"""Share of keypoints or boxes that may differ: rounding decides between two equal maxima, and at a threshold."""
SEED = 2021


def prove(candidate: Candidate, path: Path) -> dict[str, Any]:
    """Candidate, and the path of its file with the manifest -> the record; ModelError where the two differ."""
    session = Session.open(path, "cpu")
    if isinstance(candidate, PoseCandidate):
        return _prove_pose(candidate, session)
    return _prove_image(candidate, session)


def _prove_pose(candidate: PoseCandidate, session: Session) -> dict[str, Any]:
    differences = _Differences()
    crops = _crops(candidate.manifest.input_size)
    outputs = session.run(np.stack(list(crops.values())))
    for index, (name, crop) in enumerate(crops.items()):
        keypoints, scores = candidate.published(crop)
        differences.add_keypoints(name, keypoints, scores, outputs["keypoints"][index], outputs["scores"][index])
    estimator = Estimator(session)
    for name, image, boxes in _examples():
        found = estimator(image, boxes)
        for index, box in enumerate(boxes):
            matrix = published_matrix(np.asarray(box, np.float64), candidate.manifest)
            crop = images.warp(image, matrix, candidate.manifest.input_size)
            keypoints, scores = candidate.published(crop)
            linear = matrix[:, :2]
            in_image = (keypoints - matrix[:, 2]) @ np.linalg.inv(linear).T
            # In crop pixels: an image pixel can be a small part of one.
            given = (found.keypoints[index] - in_image) @ linear.T + keypoints
            differences.add_keypoints(f"{name}, person {index}", keypoints, scores, given, found.scores[index])
    return differences.record({"crops": list(crops)})


def published_matrix(box: NDArray[np.float64], manifest: PoseManifest) -> NDArray[np.float64]:
    """Box (4,) -> (2, 3) image to crop pixels, as mmpose computes it: from three points, or UDP's two lengths."""
    width, height = manifest.input_size.xy
    center = (box[:2] + box[2:]) / 2
    scale = (box[2:] - box[:2]) * manifest.padding
    aspect = width / height
    # The shorter side is extended to the aspect ratio of the crop.
    scale = np.array([scale[0], scale[0] / aspect] if scale[0] > aspect * scale[1] else [scale[1] * aspect, scale[1]])
    if manifest.crop_mode == "udp":
        factors = np.array([width - 1, height - 1]) / scale
        offset = np.array([width - 1, height - 1]) / 2 - factors * center
        return np.column_stack([np.diag(factors), offset]).astype(np.float64)
    up = center - (0, scale[0] / 2)
    source = np.array([center, up, (up[0] + up[1] - center[1], up[1])])
    target = np.array([(width / 2, height / 2), (width / 2, height / 2 - width / 2), (0, height / 2 - width / 2)])
    known = np.column_stack([source, np.ones(3)])
    return np.linalg.solve(known, target).T.astype(np.float64)


def _prove_image(candidate: ImageCandidate, session: Session) -> dict[str, Any]:
    differences = _Differences()
    manifest = candidate.manifest
    for name, image, _ in _examples():
        placed = candidate.place(image)
        wanted = candidate.published(placed.canvas).moved(placed.to_image)
        letterbox = Letterbox.of(_size(image), manifest.long_side, manifest.letterbox)
        outputs = session.run(images.letterbox(image, letterbox)[None])
        differences.add_persons(name, wanted, _found(outputs).moved(letterbox.to_image))
    return differences.record({})


def _found(outputs: Outputs) -> Found:
    """Outputs of a session of kind detector or poses -> persons in input pixels."""
    if "keypoints" not in outputs:
        return Found.of_boxes(outputs["boxes_xyxy"], outputs["scores"])
    return Found(outputs["boxes_xyxy"], outputs["box_scores"], outputs["keypoints"], outputs["scores"])


class _Differences:
    """Collects the differences of all images, and decides."""

    def __init__(self) -> None:
        self._worst = dict.fromkeys(ALLOWED, 0.0)
        self._compared = 0
        self._wrong: list[str] = []
        self._images: list[str] = []

    def add_keypoints(
        self, name: str, wanted: Array, wanted_scores: Array, found: NDArray[Any], found_scores: Array
    ) -> None:
        """Keypoints (K, 2) and scores (K,) of one person. Where no response is above 0 the place means nothing."""
        self._images.append(name)
        apart = np.abs(wanted - found).max(axis=1, initial=0) * (wanted_scores > 0)
        self._compare(name, "keypoints", apart, np.abs(wanted_scores - found_scores))

    def add_persons(self, name: str, wanted: Found, found: Found) -> None:
        """Persons of one image; each is compared with the nearest one of the other side."""
        self._images.append(name)
        for few, many, words in ((wanted, found, "only the original"), (found, wanted, "only the written file")):
            for index in range(len(few.box_scores)):
                if not len(many.box_scores):
                    self._compared += 1
                    self._wrong.append(f"{name}: {words} finds a person with score {few.box_scores[index]:.3f}")
                    continue
                self._compare_person(name, few, index, many)

    def _compare_person(self, name: str, few: Found, index: int, many: Found) -> None:
        corners = np.abs(many.boxes_xyxy - few.boxes_xyxy[index]).max(axis=1)
        scores = np.abs(many.box_scores - few.box_scores[index])
        # In units of what is allowed, so that of two equal boxes the one of the same score is the nearest.
        other = int(np.argmin(corners / ALLOWED["boxes"] + scores / ALLOWED["scores"]))
        self._compare(name, "boxes", corners[other : other + 1], scores[other : other + 1])
        apart = np.abs(many.keypoints[other] - few.keypoints[index]).max(axis=1, initial=0)
        if len(apart):
            self._compare(name, "keypoints", apart, np.abs(many.scores[other] - few.scores[index]))

    def _compare(self, name: str, what: str, apart: NDArray[Any], scores: NDArray[Any]) -> None:
        """Distances and differences of scores, one for each keypoint or box."""
        self._compared += len(apart)
        # A comparison with NaN is false: such a value is wrong.
        right = (apart <= ALLOWED[what]) & (scores <= ALLOWED["scores"])
        for index in np.flatnonzero(~right):
            self._wrong.append(f"{name}: {what} differ by {apart[index]:.3g} px, scores by {scores[index]:.3g}")
        self._worst[what] = max(self._worst[what], float(apart[right].max(initial=0)))
        self._worst["scores"] = max(self._worst["scores"], float(scores[right].max(initial=0)))

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The record for the manifest; ModelError if the two differ, or if nothing was compared."""
        if not self._compared:
            raise ModelError(
                "The original finds nobody in the example images: nothing to compare. Are its options right?"
            )
        if len(self._wrong) > BORDERLINE * self._compared:
            raise ModelError(
                f"The written file does not equal the original: {len(self._wrong)} of {self._compared} results differ."
                f" The first one on {self._wrong[0]} (allowed {ALLOWED}). No file was written."
            )
        return {
            **facts,
            "images": self._images,
            "allowed": ALLOWED,
            **self._worst,
            "compared": self._compared,
            "jumps": self._wrong,
        }


def _crops(size: Size) -> dict[str, Pixels]:
    """Noise, black, a gradient, and the example portraits, whole."""
    noise = np.random.default_rng(SEED).integers(0, 256, (*size.shape, 3), np.uint8)
    across = np.linspace(0, 255, size.width).astype(np.uint8)
    found = {
        "noise": noise,
        "black": np.zeros_like(noise),
        "gradient": np.broadcast_to(across[None, :, None], noise.shape).copy(),
    }
    portraits = {name: images.resize(image, size, "area") for name, image, boxes in _examples() if len(boxes) == 1}
    return found | portraits


@cache
def _examples() -> tuple[tuple[str, Pixels, list[list[float]]], ...]:
    """Name, pixels and person boxes of each example image."""
    boxes: dict[str, list[list[float]]] = files.read_json(examples.find("boxes.json"))
    return tuple((name, images.read(examples.find(name)), boxes[name]) for name in examples.NAMES if name in boxes)


def _size(image: Pixels) -> Size:
    return Size(height=image.shape[0], width=image.shape[1])
