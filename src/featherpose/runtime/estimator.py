"""Top-down pose estimation: images and person boxes -> crops in shared batches -> keypoints in image pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

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

BATCHES_PER_GROUP = 2
"""Images share runs of the session until their crops fill this many batches: fewer crops are left over."""

PIXELS_PER_GROUP = 100_000_000
"""Large images share less: a group is complete when its images have this many pixels, 300 MB, in all."""

Image = NDArray[np.uint8]
Array = NDArray[np.float32]


class ImageWithBoxes(Protocol):
    """An image RGB uint8 (H, W, 3), the boxes (N, 4) of the persons in it, and their scores (N,): all checked."""

    @property
    def image(self) -> Image: ...
    @property
    def boxes(self) -> Array: ...
    @property
    def scores(self) -> Array: ...


@dataclass(frozen=True, eq=False)
class Request:
    """An image RGB uint8 (H, W, 3), the boxes (N, 4) of the persons in it, and their scores (N,). See `checked`."""

    image: Image
    boxes: Array
    scores: Array

    @classmethod
    def checked(cls, image: Image, boxes_xyxy: ArrayLike | None, box_scores: ArrayLike | None = None) -> Request:
        """Image, its boxes, None for the whole image, and their scores, None for 1 each -> Request; InputError for what
        cannot be used."""
        check_image(image)
        size = _size_of(image)
        boxes = whole_image_box(size) if boxes_xyxy is None else check_boxes(boxes_xyxy, size)
        return cls(image, boxes, _scores(box_scores, len(boxes)))


R = TypeVar("R", bound=ImageWithBoxes)
Regions = Iterable[tuple[R, Array]]
"""Requests, each with the boxes (N, 4) to crop: its own, or those of the second pass."""


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
        _check_heatmap_options(self.manifest, session.path, flip_test, blur_kernel)
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
        image: Image,
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
        check_choice(boxes_xyxy, whole_image)
        ((_, poses),) = self.estimate_requests([Request.checked(image, boxes_xyxy, box_scores)])
        return poses

    def estimate_all(
        self,
        images: Iterable[Image],
        boxes_xyxy: Iterable[ArrayLike] | None = None,
        box_scores: Iterable[ArrayLike] | None = None,
        *,
        whole_image: bool = False,
    ) -> Iterator[Poses]:
        """Images, and the boxes (N, 4) of the persons in each -> the Poses of each image, in order.

        The same poses as from a call for each image, but the crops of several images share a batch. Images are taken
        when they are needed, at most `BATCHES_PER_GROUP` batches ahead of the poses. An error is raised after the poses
        of the images before it.

        Args:
            boxes_xyxy: as many as images; an image without boxes gives no poses.
            box_scores: for each image the scores (N,) of its boxes; None: 1 each.
            whole_image: each image shows one person who fills it, in place of `boxes_xyxy`.

        Raises:
            InputError: as for a call, with the index of the image; or more or fewer boxes or scores than images.
        """
        check_choice(boxes_xyxy, whole_image)
        return (poses for _, poses in self.estimate_requests(_requests(images, boxes_xyxy, box_scores)))

    def estimate_requests(self, requests: Iterable[R]) -> Iterator[tuple[R, Poses]]:
        """As `estimate_all`, for images with their boxes in one object, which is returned with its poses."""
        found = self._keypoints((request, request.boxes) for request in requests)
        if self.refine:
            found = self._keypoints((request, _refined(request.boxes, *result)) for request, *result in found)
        for request, keypoints, scores in found:
            size = _size_of(request.image)
            yield request, Poses(keypoints, scores, request.boxes, request.scores, self.manifest.skeleton, size)

    def _keypoints(self, regions: Regions[R]) -> Iterator[tuple[R, Array, Array]]:
        """Requests and boxes (N, 4) -> each request with keypoints (N, K, 2) in image pixels and scores (N, K)."""
        for group in _groups(regions, BATCHES_PER_GROUP * self.session.batch_size):
            crops = [[self._crop(box) for box in boxes] for _, boxes in group]
            pixels = [
                images.warp(request.image, crop.matrix, crop.size, antialias=self.manifest.antialias)
                for (request, _), of_image in zip(group, crops, strict=True)
                for crop in of_image
            ]
            batch = np.array(pixels, np.uint8).reshape(-1, *self.manifest.input_size.shape, 3)
            keypoints, scores = self._predict(batch)
            starts = np.cumsum([len(of_image) for of_image in crops])[:-1]
            parts = zip(group, crops, np.split(keypoints, starts), np.split(scores, starts), strict=True)
            for (request, _), of_image, in_crops, keypoint_scores in parts:
                in_image = [crop.to_image(points) for crop, points in zip(of_image, in_crops, strict=True)]
                yield request, np.array(in_image, np.float32).reshape(in_crops.shape), keypoint_scores
            group.clear()  # its images are let go before those of the next group are read

    def _crop(self, box_xyxy: Array) -> Crop:
        return Crop.from_box(box_xyxy, self.manifest.input_size, self.manifest.crop_mode, self.padding)

    def _predict(self, crops: NDArray[np.uint8]) -> tuple[Array, Array]:
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

    def _heatmaps(self, crops: NDArray[np.uint8]) -> Array:
        outputs = self.session.run(crops)
        if "heatmaps" not in outputs:
            raise ModelError(
                f"{self.session.path}: gives no heatmaps, which flip_test and blur_kernel need; leave them out."
            )
        return outputs["heatmaps"]


def _check_heatmap_options(
    manifest: PoseManifest, path: str | os.PathLike[str], flip_test: bool, blur_kernel: int
) -> None:
    """InputError for an option that needs heatmaps where the model has none, or smooths them itself."""
    options = {"flip_test": flip_test, "blur_kernel": blur_kernel}
    given = [name for name, value in options.items() if value]
    if manifest.codec is None and given:
        raise InputError(f"{path}: gives keypoints without heatmaps, which {given[0]} needs; leave it out.")
    if blur_kernel and manifest.make_codec().blurs:
        name = manifest.make_codec().name
        raise InputError(
            f"blur_kernel is {blur_kernel}, but this model's codec, {name}, smooths heatmaps itself; leave it out."
        )


def check_choice(boxes: object, whole_image: bool) -> None:
    """InputError unless exactly one is given: boxes (None: not given), or that the whole image shows one person."""
    if boxes is None and not whole_image:
        raise InputError(
            "There are no boxes: give those of the persons, [[left, top, right, bottom], ...], or whole_image=True if"
            " the image shows one person; featherpose.estimate finds them by itself."
        )
    if boxes is not None and whole_image:
        raise InputError("Boxes and whole_image=True contradict each other: leave one out.")


def _requests(
    images: Iterable[Image], boxes_xyxy: Iterable[ArrayLike] | None, box_scores: Iterable[ArrayLike] | None
) -> Iterator[Request]:
    """Images, the boxes of each, None for the whole images, and their scores, None for 1 each -> requests.

    InputError with the index of the image, and where there are more or fewer boxes or scores than images.
    """
    boxes_in_turn = None if boxes_xyxy is None else iter(boxes_xyxy)
    scores_in_turn = None if box_scores is None else iter(box_scores)
    count = 0
    for image in images:
        boxes = _next(boxes_in_turn, "boxes", count)
        scores = _next(scores_in_turn, "scores", count)
        try:
            request = Request.checked(image, boxes, scores)
        except InputError as error:
            raise InputError(f"Image {count}: {error}") from None
        yield request
        count += 1
    _refuse_more(boxes_in_turn, "boxes", count)
    _refuse_more(scores_in_turn, "scores", count)


def _next(of_each: Iterator[ArrayLike] | None, what: str, index: int) -> ArrayLike | None:
    """What is given for each image -> that of the next image; None where it is not given for any."""
    if of_each is None:
        return None
    of_image = next(of_each, None)
    if of_image is None:
        raise InputError(f"Image {index} has no {what}; give a list for each image, [] where it shows nobody.")
    return of_image


def _refuse_more(of_each: Iterator[ArrayLike] | None, what: str, count: int) -> None:
    if of_each is not None and next(of_each, None) is not None:
        raise InputError(f"There are {what} for more than {count} images; give a list for each image.")


def _groups(regions: Regions[R], size: int) -> Iterator[list[tuple[R, Array]]]:
    """Regions -> lists of them with at least `size` boxes, or of `size` images, or of `PIXELS_PER_GROUP`: so many are
    held in memory.

    An error in the regions is raised after those before it.
    """
    group: list[tuple[R, Array]] = []
    number = 0
    pixels = 0
    try:
        for region in regions:
            group.append(region)
            number += len(region[1])
            pixels += _size_of(region[0].image).area
            if max(number, len(group)) >= size or pixels >= PIXELS_PER_GROUP:
                yield group
                group = []
                number = 0
                pixels = 0
    except (Exception, KeyboardInterrupt):
        if group:
            yield group
        raise
    if group:
        yield group


def _size_of(image: Image) -> Size:
    return Size(height=image.shape[0], width=image.shape[1])


def _refined(boxes: Array, keypoints: Array, scores: Array) -> Array:
    """Boxes (N, 4), keypoints (N, K, 2) and scores (N, K) -> boxes around the keypoints, or the given boxes where too
    few keypoints are confident."""
    found = [
        box_of_keypoints(points, confident)
        for points, confident in zip(keypoints, scores > MIN_KEYPOINT_SCORE, strict=True)
    ]
    chosen = [given if box is None else box for given, box in zip(boxes, found, strict=True)]
    return np.array(chosen, np.float32).reshape(-1, 4)


def check_image(image: Image) -> None:
    """InputError unless the image is an array uint8 (H, W, 3)."""
    if not isinstance(image, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
        raise InputError(f"The image is a {type(image).__name__}, wanted an array; read files with images.read(path).")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"The image is {image.dtype} {image.shape}, wanted uint8 (height, width, 3) in RGB order "
            f"({_remedy(image)})."
        )


def _remedy(image: NDArray[np.generic]) -> str:
    """An array that is no image -> what to type."""
    if np.issubdtype(image.dtype, np.floating):
        return "from floats of 0 to 1: (image * 255).round().astype(np.uint8)"
    if image.ndim == 2 or image.shape[2:] == (1,):
        return "gray: np.repeat(gray.reshape(*gray.shape[:2], 1), 3, 2)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "with transparency: image[..., :3]"
    if image.ndim == 3 and image.shape[0] == 3:
        return "channels first: np.moveaxis(image, 0, 2)"
    if image.dtype == np.uint16:
        return "16 bits: (image >> 8).astype(np.uint8)"
    return "from OpenCV: bgr[..., ::-1]"


def _scores(box_scores: ArrayLike | None, number: int) -> Array:
    if box_scores is None:
        return np.ones(number, np.float32)
    scores = np.asarray(box_scores, np.float32)
    if scores.shape != (number,) or not np.isfinite(scores).all():
        raise InputError(f"box_scores have shape {scores.shape}, wanted ({number},) finite numbers, one per box.")
    return scores
