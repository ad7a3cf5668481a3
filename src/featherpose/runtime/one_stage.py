"""One-stage pose estimation: image -> letterboxed input -> boxes and keypoints of all people, in image pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from featherpose import images
from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.manifest import PosesManifest, of_kind
from featherpose.poses import Poses
from featherpose.runtime.detector import check_limits
from featherpose.runtime.estimator import R, check_image
from featherpose.runtime.session import Session
from featherpose.size import Size


class OneStage:
    """Finds the people in an image and their keypoints with one model. Create it with `OneStage.open`, then call it.

    `conf` is the score below which a person is left out (default: the manifest's), `max_people` the number of people
    kept per image, the best ones (None: all).
    """

    def __init__(self, session: Session, *, conf: float | None = None, max_people: int | None = None) -> None:
        manifest = of_kind(session.manifest, PosesManifest, session.path)
        check_limits(conf, max_people)
        self.session = session
        self.manifest = manifest
        self.conf = manifest.conf if conf is None else conf
        self.max_people = max_people

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str],
        device: str = "auto",
        threads: int | None = None,
        *,
        conf: float | None = None,
        max_people: int | None = None,
    ) -> OneStage:
        """Path of an .onnx file of kind poses -> OneStage."""
        return cls(Session.open(model, device, threads), conf=conf, max_people=max_people)

    def __call__(self, image: NDArray[np.uint8]) -> Poses:
        """RGB uint8 (H, W, 3) -> Poses in its pixels, the best person first; InputError for another array."""
        check_image(image)
        size = Size(height=image.shape[0], width=image.shape[1])
        place = Letterbox.of(size, self.manifest.long_side, self.manifest.letterbox)
        outputs = self.session.run(images.letterbox(image, place)[None])
        scores = outputs["box_scores"]
        best_first = np.argsort(-scores, kind="stable")
        chosen = best_first[scores[best_first] >= self.conf][: self.max_people]
        corners = place.to_image(outputs["boxes_xyxy"][chosen].reshape(-1, 2, 2))
        return Poses(
            keypoints=place.to_image(outputs["keypoints"][chosen]).astype(np.float32),
            scores=outputs["scores"][chosen],
            boxes_xyxy=np.clip(corners, 0, size.xy).reshape(-1, 4).astype(np.float32),
            box_scores=scores[chosen],
            skeleton=self.manifest.skeleton,
            image_size=size,
        )

    def estimate_all(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[Poses]:
        """Images -> the Poses of each, in order; an error names the index of the image."""
        for index, image in enumerate(images):
            try:
                poses = self(image)
            except InputError as error:
                raise InputError(f"Image {index}: {error}") from None
            yield poses

    def estimate_requests(self, requests: Iterable[R]) -> Iterator[tuple[R, Poses]]:
        """As `Estimator.estimate_requests`; the boxes of the requests are not read."""
        return ((request, self(request.image)) for request in requests)
