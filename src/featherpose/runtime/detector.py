"""Person detection: image -> letterboxed input -> boxes in image pixels."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from featherpose import images
from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.manifest import DetectorManifest, of_kind
from featherpose.runtime.session import Session
from featherpose.size import Size

Detections = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes (M, 4) left, top, right, bottom in image pixels, best first, and their scores (M,)."""


class Detector:
    """Finds the people in an image. Create it with `Detector.open`, then call it.

    It may be called from several threads, after a fork, and in processes that it was sent to, as its session may.
    `conf` is the score below which a box is left out (default: the manifest's), `max_people` the number of boxes kept
    per image, the best ones (None: all), `long_side` the length in px to which the longer side of an image is scaled
    (default: the manifest's; larger finds smaller people and takes longer).
    """

    def __init__(
        self,
        session: Session,
        *,
        conf: float | None = None,
        max_people: int | None = None,
        long_side: int | None = None,
    ) -> None:
        manifest = of_kind(session.manifest, DetectorManifest, session.path)
        check_limits(conf, max_people)
        if long_side is not None and long_side < 1:
            raise InputError(f"long_side is {long_side}, wanted a number of pixels above 0.")
        self.session = session
        self.conf = manifest.conf if conf is None else conf
        self.max_people = max_people
        self.long_side = manifest.long_side if long_side is None else long_side
        self.fit = manifest.letterbox

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str],
        device: str = "auto",
        threads: int | None = None,
        *,
        conf: float | None = None,
        max_people: int | None = None,
        long_side: int | None = None,
    ) -> Detector:
        """Path of an exported .onnx file -> Detector."""
        return cls(Session.open(model, device, threads), conf=conf, max_people=max_people, long_side=long_side)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """RGB uint8 (H, W, 3) -> boxes, clipped to the image, and scores; none for an image without people."""
        size = Size(height=image.shape[0], width=image.shape[1])
        place = Letterbox.of(size, self.long_side, self.fit)
        outputs = self.session.run(images.letterbox(image, place)[None])
        corners = place.to_image(outputs["boxes_xyxy"].reshape(-1, 2, 2))
        boxes = np.clip(corners, 0, size.xy).reshape(-1, 4).astype(np.float32)
        scores = outputs["scores"]
        # A box in the padding has no area left.
        chosen = np.flatnonzero((scores >= self.conf) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))[: self.max_people]
        return boxes[chosen], scores[chosen]


def check_limits(conf: float | None, max_people: int | None) -> None:
    """InputError for a lowest score or a number of people that cannot be; None: not given."""
    if conf is not None and not 0 <= conf <= 1:
        raise InputError(f"conf is {conf}, wanted a score from 0 to 1.")
    if max_people is not None and max_people < 1:
        raise InputError(f"max_people is {max_people}, wanted at least 1.")
