"""Top-down pose estimation: image and person boxes -> crops in one batch -> keypoints in image pixels."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose import images
from featherpose.boxes import box_of_keypoints, check_boxes, whole_image_box
from featherpose.codecs.keypoints import keypoints_of_crops
from featherpose.crop import Crop
from featherpose.errors import InputError, ModelError
from featherpose.manifest import PoseManifest, of_kind
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.runtime.session import Session
from featherpose.size import Size


class Estimator:
    """Predicts the keypoints of persons in given boxes. Create it with `Estimator.open`, then call it.

    It may be called from several threads, after a fork, and in processes that it was sent to (it pickles).

    `flip_test` also runs each crop mirrored and averages the heatmaps: twice the latency, about one point of AP.
    `blur_kernel` is the width in cells of the Gaussian filter applied to heatmaps before decoding (0 for none; 11 suits
    64x48 cells; InputError for a codec that smooths heatmaps itself). `refine` runs twice: the second crop surrounds
    the confident keypoints of the first, which helps with inaccurate boxes and harms with accurate ones; twice the
    latency. `padding` is the factor by which a crop is larger than its box (default: the manifest's).
    """

    def __init__(
        self,
        session: Session,
        *,
        flip_test: bool = False,
        blur_kernel: int = 0,
        refine: bool = False,
        padding: float | None = None,
    ) -> None:
        if blur_kernel < 0 or (blur_kernel and blur_kernel % 2 == 0):
            raise InputError(f"blur_kernel is {blur_kernel}, wanted 0 (none) or an odd number of heatmap cells.")
        if padding is not None and not padding > 0:
            raise InputError(f"padding is {padding}, wanted a factor above 0, such as 1.25.")
        self.manifest = of_kind(session.manifest, PoseManifest, session.path)
        codec = self.manifest.make_codec()
        if blur_kernel and codec.blurs:
            raise InputError(
                f"blur_kernel is {blur_kernel}, but this model's codec, {codec.name}, smooths heatmaps itself; "
                "leave it out."
            )
        self.session = session
        self.flip_test = flip_test
        self.blur_kernel = blur_kernel
        self.refine = refine
        self.padding = self.manifest.padding if padding is None else padding

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str],
        device: str = "auto",
        threads: int | None = None,
        *,
        flip_test: bool = False,
        blur_kernel: int = 0,
        refine: bool = False,
        padding: float | None = None,
    ) -> Estimator:
        """Path of an exported .onnx file -> Estimator. Sets OpenCV to one thread in this process: the engine uses
        the cores."""
        images.use_one_thread()
        return cls(
            Session.open(model, device, threads),
            flip_test=flip_test,
            blur_kernel=blur_kernel,
            refine=refine,
            padding=padding,
        )

    def __call__(
        self,
        image: NDArray[np.uint8],
        boxes_xyxy: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        *,
        whole_image: bool = False,
    ) -> Poses:
        """RGB uint8 (H, W, 3) and boxes (N, 4) left, top, right, bottom in its pixels -> Poses of N persons.

        The boxes in Poses are the given ones, also with `refine`.

        Args:
            boxes_xyxy: no box gives no poses.
            box_scores: (N,); None: 1 each.
            whole_image: the image shows one person who fills it, in place of `boxes_xyxy`.

        Raises:
            InputError: neither or both of `boxes_xyxy` and `whole_image`, or values that cannot be used.
        """
        _check_image(image)
        size = Size(height=image.shape[0], width=image.shape[1])
        check_choice(boxes_xyxy, whole_image)
        boxes = whole_image_box(size) if boxes_xyxy is None else check_boxes(boxes_xyxy, size)
        scores = _scores(box_scores, len(boxes))
        manifest = self.manifest
        if not len(boxes):
            return Poses.empty(manifest.skeleton, size)
        keypoints, keypoint_scores = self._estimate(image, boxes)
        if self.refine:
            keypoints, keypoint_scores = self._estimate(image, _refined(boxes, keypoints, keypoint_scores))
        return Poses(keypoints, keypoint_scores, boxes, scores, manifest.skeleton, size)

    def _estimate(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Image and one or more boxes (N, 4) -> keypoints (N, K, 2) in image pixels and scores (N, K)."""
        manifest = self.manifest
        crops = [Crop.from_box(box, manifest.input_size, manifest.crop_mode, self.padding) for box in boxes]
        keypoints, keypoint_scores = self._predict(
            np.stack([images.warp(image, crop.matrix, crop.size, antialias=True) for crop in crops])
        )
        in_image = [crop.to_image(points) for crop, points in zip(crops, keypoints, strict=True)]
        return np.array(in_image, np.float32), keypoint_scores

    def _predict(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops (N, h, w, 3) -> keypoints (N, K, 2) in crop pixels and scores (N, K)."""
        if not self.flip_test and not self.blur_kernel:
            outputs = self.session.run(crops)
            return outputs["keypoints"], outputs["scores"]
        return keypoints_of_crops(
            self._heatmaps,
            crops,
            self.manifest.make_codec(),
            self.manifest.skeleton.flip_order,
            flip_test=self.flip_test,
            blur_kernel=self.blur_kernel,
        )

    def _heatmaps(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = self.session.run(crops)
        if "heatmaps" not in outputs:
            raise ModelError(
                f"{self.session.path}: gives no heatmaps, which flip_test and blur_kernel need; leave them out."
            )
        return outputs["heatmaps"]


def check_choice(boxes: object, whole_image: bool) -> None:
    """InputError unless exactly one is given: boxes (None: not given), or that the whole image shows one person."""
    if boxes is None and not whole_image:
        raise InputError(
            "This version has no person detector: give the boxes of the persons, [[left, top, right, bottom], ...], or"
            " whole_image=True if the image shows one person."
        )
    if boxes is not None and whole_image:
        raise InputError("Boxes and whole_image=True contradict each other: leave one out.")


def _refined(
    boxes: NDArray[np.float32], keypoints: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Boxes (N, 4), keypoints (N, K, 2) and scores (N, K) -> boxes around the keypoints, or the given boxes where too
    few keypoints are confident."""
    found = [
        box_of_keypoints(points, confident)
        for points, confident in zip(keypoints, scores > MIN_KEYPOINT_SCORE, strict=True)
    ]
    return np.stack([given if box is None else box for given, box in zip(boxes, found, strict=True)])


def _check_image(image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
        raise InputError(f"The image is a {type(image).__name__}, wanted an array; read files with images.read(path).")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"The image is {image.dtype} {image.shape}, wanted uint8 (height, width, 3) in RGB order "
            "(gray: np.repeat(gray[..., None], 3, 2); from OpenCV: bgr[..., ::-1])."
        )


def _scores(box_scores: ArrayLike | None, number: int) -> NDArray[np.float32]:
    if box_scores is None:
        return np.ones(number, np.float32)
    scores = np.asarray(box_scores, np.float32)
    if scores.shape != (number,) or not np.isfinite(scores).all():
        raise InputError(f"box_scores have shape {scores.shape}, wanted ({number},) finite numbers, one per box.")
    return scores
