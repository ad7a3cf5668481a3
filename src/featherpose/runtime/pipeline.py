"""Top-down pose estimation without boxes: the detector finds the people, the estimator their keypoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.nms import oks_nms
from featherpose.poses import Poses
from featherpose.runtime.detector import Detections
from featherpose.runtime.estimator import Estimator, Request, check_image
from featherpose.skeleton import OTHER_SIGMA

Image = NDArray[np.uint8]
Detect = Callable[[Image], Detections]
"""RGB uint8 (H, W, 3) -> boxes (M, 4) left, top, right, bottom in its pixels, and scores (M,); a `Detector`, say."""

NMS_OKS = 0.9
"""Of two poses that are more similar than this, the better one is kept: the value of Xiao et al. 2018."""


class TopDown:
    """Finds the people in an image and their keypoints: a detector and an estimator, one after the other.

    Of poses with an OKS above 0.9, relative to the areas of their boxes, the one with the highest person score is kept.
    """

    def __init__(self, detector: Detect, estimator: Estimator) -> None:
        self.detector = detector
        self.estimator = estimator

    def __call__(self, image: Image) -> Poses:
        """RGB uint8 (H, W, 3) -> Poses in its pixels, the best person first; InputError for another array."""
        check_image(image)
        boxes, scores = self.detector(image)
        return without_duplicates(self.estimator(image, boxes, scores))

    def estimate_all(self, images: Iterable[Image]) -> Iterator[Poses]:
        """Images -> the Poses of each, in order: the same as from a call, but the people of several images share runs.

        Images are taken when they are needed, as by `Estimator.estimate_all`; errors name the index of the image.
        """
        return (without_duplicates(poses) for _, poses in self.estimator.estimate_requests(self._requests(images)))

    def _requests(self, images: Iterable[Image]) -> Iterator[Request]:
        """Images -> each with the boxes of its people."""
        for index, image in enumerate(images):
            try:
                check_image(image)
            except InputError as error:
                raise InputError(f"Image {index}: {error}") from None
            yield Request.checked(image, *self.detector(image))


def without_duplicates(poses: Poses) -> Poses:
    """Poses -> those that no better one is a duplicate of, the best person first (NMS by OKS)."""
    # A skeleton from a file may give no sigma: 0. Every distance would be infinite then.
    sigmas = [sigma if sigma > 0 else OTHER_SIGMA for sigma in poses.skeleton.sigmas]
    sides = poses.boxes_xyxy[:, 2:] - poses.boxes_xyxy[:, :2]
    return poses[oks_nms(poses.keypoints, poses.person_scores, sides.prod(axis=1), sigmas, NMS_OKS)]
