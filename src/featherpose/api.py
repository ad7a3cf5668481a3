"""Every command as a Python function, with the names and options of the command line.

Heavy libraries are imported inside the functions: inference needs no torch, and training needs no onnxruntime.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike

from featherpose.errors import InputError, MissingExtra, ModelError, RecipeError, did_you_mean
from featherpose.poses import Poses
from featherpose.size import Size

if TYPE_CHECKING:
    from featherpose.data.dataset import Dataset
    from featherpose.data.datasets import Source as LabeledSource
    from featherpose.data.mpii import Mpii
    from featherpose.data.pack import Packed
    from featherpose.evaluation.coco import CocoScores
    from featherpose.evaluation.compare import Comparison
    from featherpose.evaluation.crowdpose import CrowdScores
    from featherpose.evaluation.detector import DetectorScores
    from featherpose.evaluation.lsp import LspScores
    from featherpose.evaluation.mpii import MpiiScores
    from featherpose.evaluation.result import Evaluation
    from featherpose.manifest import Manifest, PoseManifest
    from featherpose.recipes.recipe import Recipe
    from featherpose.runtime.detector import Detector
    from featherpose.runtime.estimator import Estimator
    from featherpose.runtime.latency import Latency
    from featherpose.runtime.models import Models
    from featherpose.runtime.predict import Report
    from featherpose.runtime.session import Session
    from featherpose.runtime.sources import Source
    from featherpose.runtime.video_sources import Frame, VideoSource
    from featherpose.training.average import Average
    from featherpose.training.benchmark import TrainingSpeed
    from featherpose.training.loop import Outcome
    from featherpose.zoo import Entry
    from featherpose.zoo.models import DetectorModel, Model

AnyPath = str | os.PathLike[str]

IN_GIVEN_BOXES = ("mpii", "lsp")
"""Data sets whose persons are found in the boxes that come with the labels, and in no others."""

CUSTOM_RECIPE = "custom-feather_pose"
"""The recipe for a custom data set when none is named."""


def estimate(
    image: Source,
    *,
    boxes: ArrayLike | None = None,
    whole_image: bool = False,
    detector: AnyPath | None = "default",
    conf: float | None = None,
    max_people: int | None = None,
    model: AnyPath = "default",
    device: str = "auto",
) -> Poses:
    """Image -> Poses of the people in it, in its pixels; those that the detector finds begin with the best person.

    The image is a path, the bytes of a file, RGB uint8 (H, W, 3), or a Pillow image. The opened models are cached for
    later calls.

    Args:
        boxes: left, top, right, bottom of each person, (N, 4) in pixels, in place of the detector; an empty list gives
            no poses.
        whole_image: the image shows one person who fills it, in place of the detector.
        detector: shipped name or .onnx file of the person detector; None: there is none.
        conf: lowest score of a box that the detector finds; None: the value in the detector's file.
        max_people: number of boxes kept, the best ones; None: all.
        model: shipped name or .onnx file.
        device: "auto" (cuda if it works, else cpu), "cpu" or "cuda".

    Raises:
        InputError: several of `boxes`, `whole_image` and `detector` (or its options) or none of them, or an image that
            cannot be read.
        ModelError: a model that is missing or of another kind.
    """
    from featherpose.runtime.sources import read_source

    models = _open_models(boxes, whole_image, detector, conf, max_people, model, device)
    if models.finder is not None:
        return models.finder(read_source(image))
    return models.estimator(read_source(image), boxes, whole_image=whole_image)


def estimate_all(
    images: Iterable[Source],
    *,
    boxes: Iterable[ArrayLike] | None = None,
    whole_image: bool = False,
    detector: AnyPath | None = "default",
    conf: float | None = None,
    max_people: int | None = None,
    model: AnyPath = "default",
    device: str = "auto",
) -> Iterator[Poses]:
    """Images as in `estimate` -> the Poses of each image, in order.

    For many images: the same poses as `estimate` gives for each, but the persons of several images share a batch.
    Images are read when they are needed, a few ahead of the poses. An image that cannot be used ends the iteration,
    after the poses of the images before it; `predict` goes on with the others.

    Args:
        boxes: for each image left, top, right, bottom of each person, in place of the detector; an empty list gives no
            poses.
        whole_image: each image shows one person who fills it, in place of the detector.
        detector: shipped name or .onnx file of the person detector; None: there is none.
        conf: lowest score of a box that the detector finds; None: the value in the detector's file.
        max_people: number of boxes kept per image, the best ones; None: all.
        model: shipped name or .onnx file.
        device: "auto" (cuda if it works, else cpu), "cpu" or "cuda".

    Raises:
        InputError: several of `boxes`, `whole_image` and `detector` (or its options) or none of them, more boxes or
            fewer than images, or an image that cannot be read.
        ModelError: a model that is missing or of another kind.
    """
    from featherpose.runtime.sources import check_several, read_source

    check_several(images)
    models = _open_models(boxes, whole_image, detector, conf, max_people, model, device)
    if models.finder is not None:
        return models.finder.estimate_all(map(read_source, images))
    return models.estimator.estimate_all(map(read_source, images), boxes, whole_image=whole_image)


def _open_models(
    boxes: object,
    whole_image: bool,
    detector: AnyPath | None,
    conf: float | None,
    max_people: int | None,
    model: AnyPath,
    device: str,
    *,
    flip_test: bool = False,
    refine: bool = False,
) -> Models:
    """Options of `estimate` or `predict` -> the opened models; their sessions are cached until the files change."""
    from featherpose.runtime.models import open_models

    return open_models(
        model,
        detector,
        device,
        boxes=boxes,
        whole_image=whole_image,
        conf=conf,
        max_people=max_people,
        flip_test=flip_test,
        refine=refine,
        open_session=_session,
    )


def open_detector(
    detector: AnyPath = "default", device: str = "auto", conf: float | None = None, max_people: int | None = None
) -> Detector:
    """Shipped name or path of an .onnx file of a person detector -> Detector; its session is cached until the file
    changes."""
    from featherpose import weights
    from featherpose.runtime.detector import Detector

    return Detector(_session(weights.find_detector(detector), device), conf=conf, max_people=max_people)


def _session(path: Path, device: str) -> Session:
    """Path of an .onnx file -> its session, cached until the file changes."""
    return _open_session(path, path.resolve(), path.stat().st_mtime_ns, device)


@lru_cache(maxsize=4)
def _open_session(path: Path, resolved: Path, modified_ns: int, device: str) -> Session:
    """Cached by the file that is meant and its modification time, so that a new export replaces the old one; its path
    stays as given, for messages."""
    from featherpose.runtime.session import Session

    return Session.open(path, device)


def list_models() -> list[Model]:
    """The shipped pose models with accuracy, latency and file size, the most accurate first.

    Read from the models' cards: needs no torch.
    """
    from featherpose import weights
    from featherpose.zoo.models import read_latency, read_model

    aliases = {name: alias for alias, name in weights.ALIASES.items()}
    latency = read_latency()
    found = [read_model(card, aliases.get(card["name"]), latency) for card in weights.shipped_cards()]
    return sorted(found, key=lambda model: -model.ap)


def list_detectors() -> list[DetectorModel]:
    """The shipped person detectors with accuracy and file size, the most accurate first.

    Read from the models' cards: needs no torch.
    """
    from featherpose import weights
    from featherpose.kinds import DETECTOR
    from featherpose.zoo.models import read_detector

    aliases = {name: alias for alias, name in weights.DETECTORS.items()}
    found = [read_detector(card, aliases.get(card["name"])) for card in weights.shipped_cards(DETECTOR.name)]
    return sorted(found, key=lambda model: -model.ap)


def read_model(model: AnyPath) -> Manifest:
    """Shipped name or .onnx file -> its manifest: what the file says about itself.

    Raises:
        ModelError: no such model, or a file without a manifest.
    """
    from featherpose import weights
    from featherpose.manifest import read_manifest

    return read_manifest(weights.find(model))


def list_networks(word: str = "") -> list[Entry]:
    """The network architectures with counts, latency and published scores, read from a table, without torch.

    Args:
        word: only those with this word in their name or paper.

    Raises:
        ModelError: no network matches.
    """
    from featherpose import weights, zoo

    entries = zoo.read({name.partition("-")[0] for name in weights.shipped()})
    found = zoo.find(word, entries)
    if not found:
        near = did_you_mean(word, [entry.name for entry in entries])
        raise ModelError(f"No network has {word!r} in its name or paper.{near}")
    return found


def predict(
    sources: Iterable[AnyPath],
    *,
    boxes: AnyPath | dict[str, Any] | list[Any] | None = None,
    category: int | str | None = None,
    strict: bool = False,
    whole_image: bool = False,
    detector: AnyPath | None = "default",
    conf: float | None = None,
    max_people: int | None = None,
    model: AnyPath = "default",
    out: AnyPath = "out",
    json_file: AnyPath | None = None,
    save: Sequence[str] = ("json",),
    draw_images: bool = True,
    draw_boxes: bool = False,
    draw_ids: bool = False,
    score_threshold: float = 0.3,
    shard: str | None = None,
    overwrite: bool = False,
    flip_test: bool = False,
    refine: bool = False,
    device: str = "auto",
    max_megapixels: float = 100,
    smooth: str | None = None,
    every: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Image files -> poses by image; writes images with drawn skeletons, poses.json and the formats of `save`.

    A video (file, address or index of a camera) gives a drawn video, and a .jsonl file with the poses in each frame.
    Several are processed one after the other; those that cannot be used are listed in the failures.

    Sources are files, folders (searched recursively for images and videos), patterns such as "images/**/*.jpg", and
    "-": the paths of images on stdin, one per line. Images that an earlier run did with the same models and options,
    and that have not changed since, are skipped; their poses are those in poses.json, rounded.

    Args:
        boxes: JSON file with the person boxes of each image, or its content (`formats.person_boxes`), in place of the
            detector.
        category: name or id of the people's category in `boxes`, where there are several.
        strict: refuse `boxes` that look wrong (`meaning.CHECKS`) instead of warning.
        whole_image: every image shows one person who fills it, in place of the detector.
        detector: shipped name or .onnx file of the person detector; None: there is none.
        conf: lowest score of a box that the detector finds; None: the value in the detector's file.
        max_people: number of boxes kept per image, the best ones; None: all.
        model: shipped name or .onnx file.
        out: folder for the results.
        json_file: file for the keypoints; None: poses.json in `out`, poses-I-of-N.json for a shard.
        save: formats of the poses in `out`, names in `formats.outputs.FORMATS`; poses.json is always written, because a
            later run reads it to skip what is done.
        draw_images: write the images with drawn skeletons.
        draw_boxes: draw the boxes of the persons, too.
        draw_ids: label each person with the person score, and with the id where persons were tracked.
        score_threshold: keypoints with a lower score are drawn faintly.
        shard: "I/N": only every N-th image, beginning with the I-th; the N shards are disjoint and together complete.
        overwrite: also process the images that are done.
        flip_test: average the heatmaps with those of the flipped crop.
        refine: run a second pass on a crop around the keypoints found.
        device: "auto", "cpu" or "cuda".
        max_megapixels: larger images are refused before decoding.
        smooth: for videos, "off", "live" or "file" (`runtime.smoothing`); None: "live" for a camera or a stream, else
            "file".
        every: for videos, the detector runs in every N-th frame; None: chosen from the motion.
        progress: called with the number of images done and of all images that are not skipped; for a video, frames.

    Raises:
        InputError: several of `boxes`, `whole_image` and `detector` (or its options) or none of them, an unknown
            format, or results that would overwrite an image or each other. An image that cannot be used is no error: it
            is listed in the report.
        ModelError: a model that is missing or of another kind.
    """
    from featherpose.runtime import predict, video
    from featherpose.runtime.sources import split_sources

    split = split_sources(sources, Path(out))
    image_sources = split.of_images
    videos = [*split.named_videos, *split.videos_in_folders]
    warnings: tuple[str, ...] = ()
    report = None
    if videos:
        video.check_options(smooth=smooth, every=every)
        try:
            video.check_suited(save, {"boxes": boxes, "json": json_file, "shard": shard})
        except InputError as error:
            if split.named_videos or not image_sources:
                raise
            # Nobody asked for the videos that lie among images.
            warnings = (f"Videos in the folders were left out ({len(videos)}). {error}",)
            videos = []
    models = _open_models(
        boxes, whole_image, detector, conf, max_people, model, device, flip_test=flip_test, refine=refine
    )
    if image_sources or not videos:
        report = predict.predict(
            image_sources,
            models,
            boxes=boxes,
            whole_image=whole_image,
            category=category,
            strict=strict,
            out=out,
            json_file=json_file,
            save=save,
            shard=shard,
            overwrite=overwrite,
            draw_images=draw_images,
            draw_boxes=draw_boxes,
            draw_ids=draw_ids,
            score_threshold=score_threshold,
            max_pixels=int(max_megapixels * 1e6),
            progress=progress,
        )
    if report is not None and not videos:
        return replace(report, warnings=(*report.warnings, *warnings))
    of_videos, failures = video.predict_videos(
        videos,
        models,
        Path(out),
        smooth=smooth,
        every=every,
        save=save,
        draw_frames=draw_images,
        draw_boxes=draw_boxes,
        draw_ids=draw_ids,
        score_threshold=score_threshold,
        progress=progress,
    )
    if report is not None:
        return replace(report, videos=of_videos, num_videos=len(videos), failures=[*report.failures, *failures])
    return predict.Report(
        poses={},
        failures=failures,
        num_resumed=0,
        json_file=Path(out) / "poses.json",
        saved=[],
        model=models.session.path,
        detector=models.detector_file,
        conf=models.conf,
        device=models.session.device,
        threads=models.session.threads,
        seconds={},
        videos=of_videos,
        num_videos=len(videos),
    )


def stream(
    source: VideoSource,
    *,
    whole_image: bool = False,
    detector: AnyPath | None = "default",
    conf: float | None = None,
    max_people: int | None = None,
    model: AnyPath = "default",
    smooth: str | None = None,
    every: int | None = None,
    rate: float | None = None,
    device: str = "auto",
) -> Generator[tuple[Frame, Poses]]:
    """Video -> its frames (`image` RGB uint8 (H, W, 3), `index`, `timestamp` in s), each with the Poses of the people
    in it, in its pixels, with ids.

    The source is a video file, an HTTP or RTSP address, the index of a camera, or a folder of frames. Reading and
    inference run ahead in threads, a few frames; they stop when the iteration ends, or `close` is called.

    Args:
        whole_image: each frame shows one person who fills it, in place of the detector.
        detector: shipped name or .onnx file of the person detector; None: there is none.
        conf: lowest score of a box that the detector finds; None: the value in the detector's file.
        max_people: number of boxes kept per frame, the best ones; None: all.
        model: shipped name or .onnx file.
        smooth: "off", "live" (One-Euro, without delay) or "file" (without lag, gaps are filled; the frames come 0.7 s
            later); None: "live" for a camera or a stream, else "file".
        every: the detector runs in every N-th frame; None: chosen from the motion.
        rate: frames per second of a folder, 25 unless given, or of a source that says a wrong one.
        device: "auto" (cuda if it works, else cpu), "cpu" or "cuda".

    Raises:
        InputError: a source that cannot be opened, or options that contradict each other.
        ModelError: a model that is missing or of another kind.
    """
    from featherpose.runtime import video
    from featherpose.runtime.video_sources import open_video

    video.check_options(smooth=smooth, every=every)
    models = _open_models(None, whole_image, detector, conf, max_people, model, device)
    return video.stream(open_video(source, rate=rate), models, smooth=smooth, every=every)


def evaluate(
    model: AnyPath,
    data: AnyPath,
    *,
    format: str = "auto",
    ids: AnyPath | None = None,
    boxes: AnyPath = "gt",
    detector: AnyPath = "default",
    conf: float | None = None,
    category: int | str | None = None,
    strict: bool = False,
    flip_test: bool = False,
    blur_kernel: int = 0,
    refine: bool = False,
    nms: str | None = None,
    jitter: float = 0.0,
    padding: float | None = None,
    intervals: bool = False,
    diagnosis: bool = False,
    device: str = "auto",
    out: AnyPath | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> (
    Evaluation[CocoScores]
    | Evaluation[CrowdScores]
    | Evaluation[LspScores]
    | Evaluation[MpiiScores]
    | Evaluation[DetectorScores]
):
    """Shipped name or .onnx file, and a labeled data set -> scores and results: COCO AP and AR, CrowdPose's, LSP's PCK
    or MPII's PCKh.

    `data` is a folder, an annotation file, or FOLDER/SPLIT where a folder has several splits ("coco/val2017"), as a
    path or in the data folder. Of a test set whose annotations are withheld ("coco/test-dev2017", "mpii/test") the
    file for its server is written beside `out`. A one-stage model finds the people by itself, in all images; it has no
    options of boxes and crops. Of a person detector: AP of boxes, recall of tall people, false boxes where nobody is.
    Only `ids`, `category`, `strict`, `intervals`, `device`, `out` and `progress` apply to it.

    Args:
        format: what the data set is, a name in `data.datasets.DATASETS`; "auto": recognized.
        ids: text file with the ids or names of the images to use, one a line; None: all.
        boxes: "gt" for ground-truth boxes, or (COCO only) "detector" for those that a detector finds, with the scores
            in ground-truth boxes beside them, or a file of detected boxes.
        detector: shipped name or .onnx file of the person detector, with boxes="detector".
        conf: lowest score of a box that it finds; None: 0.01, lower than in `predict`, because AP ranks all boxes. At
            most 100 boxes of an image are used: of the poses in them, COCO counts the 20 best.
        category: name or id of the category that is evaluated, where several have keypoints (COCO only).
        strict: refuse labels and boxes that look wrong (`meaning.CHECKS`) instead of warning.
        flip_test: average the heatmaps with those of the flipped crop.
        blur_kernel: width of the Gaussian filter applied to heatmaps, in heatmap cells; 0: none.
        refine: run a second pass on a crop around the keypoints found.
        nms: method that suppresses duplicates of detected boxes: oks, soft, pose or none (COCO only; None: oks).
        jitter: shift the sides of ground-truth boxes at random by this fraction of the box (COCO only).
        padding: size of the crop relative to the box; None: the model's.
        intervals: also compute the 95 % confidence interval of each score (bootstrap over images).
        diagnosis: also compute where keypoints fall: overall accuracy, confusion matrix, kinds of error and the AP that
            each costs, calibration of the scores.
        device: "auto", "cpu" or "cuda".
        out: JSON file for the predicted keypoints or boxes, for COCO in its results format; None: not written.
        progress: called with the number of images done and of all images.

    Raises:
        InputError: an unknown format, options that the format or a detector does not have, or `out` that cannot be
            written.
    """
    from featherpose import files, images, weights
    from featherpose.data.dataset import read_ids
    from featherpose.data.datasets import find_dataset
    from featherpose.data.names import DATASET_NAMES
    from featherpose.evaluation.diagnosis import with_diagnosis
    from featherpose.evaluation.evaluate import evaluate as evaluate_coco
    from featherpose.evaluation.intervals import with_intervals
    from featherpose.kinds import DETECTOR, POSES
    from featherpose.manifest import read_manifest
    from featherpose.runtime.estimator import Estimator

    if format != "auto" and format not in DATASET_NAMES:
        raise InputError(f"Format {format!r} is not known.{did_you_mean(format, ('auto', *DATASET_NAMES))}")
    in_given_boxes = {"boxes": boxes != "gt", "nms": nms is not None, "jitter": bool(jitter)}
    if format in IN_GIVEN_BOXES:
        _refuse_in_given_boxes(format, in_given_boxes)
    if boxes != "detector" and (detector != "default" or conf is not None):
        raise InputError("detector and conf are for detected boxes; type --boxes detector.")
    if out is not None:
        files.check_writable(Path(out))  # now, not after an evaluation of minutes
    kind = read_manifest(weights.find(model)).kind
    chosen = None if ids is None else read_ids(ids)
    source = find_dataset(data, "" if format == "auto" else format)
    # Who finds the people needs no boxes, and has no crops.
    of_crops = {"format": source.name in IN_GIVEN_BOXES, **in_given_boxes, "padding": padding}
    of_crops |= {"flip_test": flip_test, "blur_kernel": blur_kernel, "refine": refine}
    evaluation: Evaluation[Any]
    if kind == DETECTOR.name:
        _refuse_options(model, "a person detector", of_crops | {"diagnosis": diagnosis})
        evaluation = _evaluate_detector(model, source.read(category, chosen), device, progress, strict=strict)
    elif kind == POSES.name:
        _refuse_options(model, "a one-stage model", of_crops)
        dataset = source.read(category, chosen)
        evaluation = _evaluate_one_stage(model, dataset, device, progress, strict=strict)
        evaluation = _with_ap_of(source.name, evaluation, dataset, model, out)
    else:
        images.use_one_thread()  # of OpenCV: the engine uses the cores
        estimator = Estimator(
            _session(weights.find(model), device),
            flip_test=flip_test,
            blur_kernel=blur_kernel,
            refine=refine,
            padding=padding,
        )
        if source.name in IN_GIVEN_BOXES:
            _refuse_in_given_boxes(source.name, in_given_boxes)
            evaluation = _evaluate_in_given_boxes(source, chosen, estimator, category, out, progress, strict=strict)
        else:
            dataset = source.read(category, chosen)
            if boxes == "detector":
                if nms is not None or jitter:
                    raise InputError(
                        "nms and jitter are for boxes that are given; leave them out: duplicates are suppressed by OKS."
                    )
                evaluation = _evaluate_detected(dataset, estimator, detector, conf, device, progress, strict=strict)
            else:
                evaluation = evaluate_coco(
                    dataset,
                    estimator.estimate_requests,
                    boxes=boxes,
                    progress=progress,
                    nms=nms,
                    jitter=jitter,
                    category=category,
                    strict=strict,
                )
            evaluation = _with_ap_of(source.name, evaluation, dataset, model, out)
    if diagnosis:
        evaluation = with_diagnosis(evaluation)
    if intervals:
        evaluation = with_intervals(evaluation)
    return _with_results(evaluation, out)


def compare(
    first: AnyPath,
    second: AnyPath,
    data: AnyPath,
    *,
    format: str = "auto",
    boxes: AnyPath = "gt",
    category: int | str | None = None,
    flip_test: bool = False,
    padding: float | None = None,
    published: bool = False,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Two models (shipped names, .onnx files, or files of COCO results) and a labeled data set -> Comparison.

    Args:
        format: what the data set is, a name in `data.datasets.DATASETS`; "auto": recognized.
        boxes: "gt" for ground-truth boxes, or (COCO only) a file of detected boxes.
        category: name or id of the category that is evaluated, where several have keypoints (COCO only).
        flip_test: average the heatmaps with those of the flipped crop.
        padding: size of the crop relative to the box; None: each model's.
        published: also list the published scores of all networks.
        device: "auto", "cpu" or "cuda".
        progress: called with the number of images done and of all images, for each model.

    Raises:
        InputError: a person detector, detected boxes without a file, or results with another format than coco.
    """
    from featherpose import weights
    from featherpose.data.datasets import find_dataset
    from featherpose.evaluation.compare import COCO_METRIC, METRICS
    from featherpose.evaluation.compare import compare as compare_evaluations
    from featherpose.evaluation.evaluate import evaluate_results
    from featherpose.formats.coco import read_results
    from featherpose.manifest import PoseManifest, of_kind, read_manifest

    if boxes == "detector":
        raise InputError("Two models are compared in the same boxes: type --boxes gt, or give a file.")

    source = find_dataset(data, "" if format == "auto" else format)
    metric = METRICS.get(source.name, COCO_METRIC)

    def evaluated(model: AnyPath) -> tuple[str, PoseManifest | None, Evaluation[Any]]:
        name = Path(model).name
        if Path(model).suffix == ".json":
            if metric != COCO_METRIC:
                raise InputError(
                    f"{model}: files of results are compared by AP only, not on {source.name}; give a model."
                )
            return name, None, evaluate_results(source.read(category), read_results(Path(model)))
        file = weights.find(model)
        manifest = of_kind(read_manifest(file), PoseManifest, file)
        evaluation = evaluate(
            model,
            data,
            format=format,
            boxes=boxes,
            category=category,
            flip_test=flip_test,
            padding=padding,
            device=device,
            progress=progress,
        )
        return name, manifest, evaluation

    return compare_evaluations(metric, evaluated(first), evaluated(second), published=published, count=_counts)


def _counts(manifest: PoseManifest) -> tuple[int, int] | None:
    """Manifest -> parameters and multiply-accumulates of the network; None without torch, or of another project."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return None
    from featherpose.networks import NETWORKS, create_network
    from featherpose.networks.counts import count_macs, count_parameters

    if manifest.network not in NETWORKS:
        return None
    network = create_network(manifest.network, manifest.skeleton.num_keypoints, **manifest.options)
    return count_parameters(network), count_macs(network, manifest.input_size)


def _refuse_options(model: AnyPath, what: str, options: Mapping[str, Any]) -> None:
    """InputError for options that do not apply to a kind of model."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{model} is {what}, evaluated without {', '.join(given)}; leave it out.")


def _refuse_in_given_boxes(name: str, options: Mapping[str, bool]) -> None:
    """InputError for options of other data sets, where one is evaluated in the boxes that come with it."""
    given = [option for option, is_given in options.items() if is_given]
    if given:
        raise InputError(f"{name} is evaluated in the boxes of its labels: leave out {', '.join(given)}.")


def _with_coco_submission(
    evaluation: Evaluation[CocoScores], dataset: Dataset, model: AnyPath, out: AnyPath | None
) -> Evaluation[CocoScores]:
    """Write the file for COCO's server beside `out`, where the annotations are withheld -> the evaluation with it."""
    from featherpose.evaluation.submission import write_coco

    if out is None or not dataset.labels.hidden:
        return evaluation
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    path = write_coco(Path(out).parent, Path(model).stem, evaluation.results)
    return replace(evaluation, submission=str(path))


def _with_mpii_submission(
    evaluation: Evaluation[MpiiScores], people: Mpii, out: AnyPath | None
) -> Evaluation[MpiiScores]:
    """Write the file for MPII's evaluation beside `out`, where the keypoints are withheld -> the evaluation with it."""
    from featherpose.evaluation.submission import write_mpii

    if out is None or not people.hidden:
        return evaluation
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    return replace(evaluation, submission=str(write_mpii(Path(out).parent, people, evaluation.results)))


def _evaluate_detector(
    model: AnyPath,
    dataset: Dataset,
    device: str,
    progress: Callable[[int, int], None] | None,
    *,
    strict: bool,
) -> Evaluation[DetectorScores]:
    """Detector and a labeled data set -> scores."""
    from featherpose import weights
    from featherpose.evaluation.detector import evaluate_detector
    from featherpose.runtime.detector import Detector

    detector = Detector.open(weights.find(model), device)
    conf = detector.conf
    detector.conf = 0.0  # AP ranks all boxes
    return evaluate_detector(dataset, detector, conf, progress, strict=strict)


def _evaluate_one_stage(
    model: AnyPath,
    dataset: Dataset,
    device: str,
    progress: Callable[[int, int], None] | None,
    *,
    strict: bool,
) -> Evaluation[CocoScores]:
    """Model that finds people and keypoints at once, and a labeled data set -> scores."""
    from featherpose import weights
    from featherpose.evaluation.detection import MAX_DETECTIONS
    from featherpose.evaluation.evaluate import evaluate_one_stage
    from featherpose.nms import MIN_SCORE
    from featherpose.runtime.one_stage import OneStage

    one_stage = OneStage(_session(weights.find(model), device), conf=MIN_SCORE, max_people=MAX_DETECTIONS)
    return evaluate_one_stage(dataset, one_stage.estimate_requests, progress, strict=strict)


def _evaluate_detected(
    dataset: Dataset,
    estimator: Estimator,
    detector: AnyPath,
    conf: float | None,
    device: str,
    progress: Callable[[int, int], None] | None,
    *,
    strict: bool,
) -> Evaluation[CocoScores]:
    """Estimator of crops, and the detector that finds them in a labeled data set -> scores."""
    from featherpose.evaluation.detection import MAX_DETECTIONS
    from featherpose.evaluation.evaluate import evaluate_detected
    from featherpose.nms import MIN_SCORE
    from featherpose.runtime.pipeline import without_duplicates

    return evaluate_detected(
        dataset,
        estimator.estimate_requests,
        open_detector(detector, device, MIN_SCORE if conf is None else conf, MAX_DETECTIONS),
        without_duplicates,
        progress,
        strict=strict,
    )


def _evaluate_in_given_boxes(
    source: LabeledSource,
    chosen: frozenset[str] | None,
    estimator: Estimator,
    category: int | str | None,
    out: AnyPath | None,
    progress: Callable[[int, int], None] | None,
    *,
    strict: bool,
) -> Evaluation[LspScores] | Evaluation[MpiiScores]:
    """Data set of `IN_GIVEN_BOXES` and an estimator -> scores; of MPII's test people also the file for its server."""
    from featherpose.data.mpii import read_mpii
    from featherpose.evaluation.lsp import evaluate_lsp
    from featherpose.evaluation.mpii import evaluate_mpii

    dataset = source.read(category, chosen)
    skeleton = estimator.manifest.skeleton
    warnings = [] if dataset.labels.hidden else dataset.warnings(strict=strict)
    if source.name == "lsp":
        of_lsp = evaluate_lsp(dataset, estimator.estimate_requests, skeleton, progress)
        return replace(of_lsp, warnings=(*warnings, *of_lsp.warnings))
    people = read_mpii(source.place, source.split, chosen)
    of_mpii = evaluate_mpii(people, estimator.estimate_requests, skeleton, progress)
    return _with_mpii_submission(replace(of_mpii, warnings=(*warnings, *of_mpii.warnings)), people, out)


def _with_ap_of(
    name: str, evaluation: Evaluation[CocoScores], dataset: Dataset, model: AnyPath, out: AnyPath | None
) -> Evaluation[CocoScores] | Evaluation[CrowdScores]:
    """Evaluation by OKS on the data set of this name -> CrowdPose's scores, or COCO's and the file for its server."""
    from featherpose.evaluation.crowdpose import with_crowd_scores

    if name == "crowdpose":
        return with_crowd_scores(evaluation, dataset.labels)
    return _with_coco_submission(evaluation, dataset, model, out)


E = TypeVar("E", bound="Evaluation[Any]")


def _with_results(evaluation: E, out: AnyPath | None) -> E:
    """Write the results of an evaluation as JSON, if a file is given -> the evaluation."""
    from featherpose import files

    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        files.replace(Path(out), json.dumps(evaluation.results).encode())
    return evaluation


def split_data(
    data: AnyPath, out: AnyPath, *, format: str = "auto", val_fraction: float = 0.2, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Data set and folder -> names of the images for training and for validation; train.txt and val.txt are written.

    The lists are for `ids` of `pack_data` and `evaluate`. An image is in the same part on every machine.

    Args:
        format: what the data set is, a name in `data.datasets.DATASETS`; "auto": recognized. Shards are, too.
        val_fraction: fraction 1/n of the images for validation.
        seed: another one gives another split; with 0 it is the one of training with the same `data.val_fraction`.

    Raises:
        DataError: no data set, a fraction that is not 1/n, or a part without images.
    """
    from featherpose.data.datasets import find_dataset, find_place
    from featherpose.data.shards import has_shards, read_index
    from featherpose.data.split import split_images, write_lists

    place = find_place(data)
    if has_shards(place):
        names = [sample.image for sample in read_index(place)]
    else:
        dataset = find_dataset(data, "" if format == "auto" else format).read()
        names = [image.name for image in dataset.labels.images]
    train_names, val_names = split_images(names, val_fraction, seed)
    write_lists(Path(out), train_names, val_names)
    return train_names, val_names


def pack_data(
    data: AnyPath,
    out: AnyPath,
    *,
    format: str = "auto",
    ids: AnyPath | None = None,
    category: int | str | None = None,
    strict: bool = False,
    image_format: str = "webp",
    quality: int | None = None,
    lossless: bool = False,
    max_height: int | None = None,
    shard_size: int = 500,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Packed, list[str]]:
    """Data set, and folder or address (s3://bucket/coco) -> what was packed into shards of crops there, and notes on
    the data set.

    A run that was interrupted resumes: shards that are there are skipped.

    Args:
        format: what the data set is, a name in `data.datasets.DATASETS`; "auto": recognized.
        ids: text file with the ids or names of the images to pack, one a line; None: all.
        category: name or id of the people's category, where there are several.
        strict: refuse labels that look wrong (`meaning.CHECKS`) instead of warning.
        image_format: "webp", "jpeg" or "avif".
        quality: of the images, 0 to 100; None: 90, for AVIF 80: pixels differ by less than 2 gray levels on average.
        lossless: store the pixels as they are, in WebP, without a limit of the height.
        max_height: largest height of a padded box in pixels, larger persons are scaled down; 0: no limit; None: 346,
            all that training at 256x192 can show.
        shard_size: samples in a shard.
        threads: crops that are made at the same time; None: the core count.
        overwrite: write all shards anew.
        progress: called with the number of samples done and in total.

    Raises:
        DataError: no data set, no sample in it, or a place with shards of another one.
        InputError: options that contradict each other.
        MissingExtra: an address, and fsspec is not installed.
    """
    from featherpose.data.dataset import read_ids
    from featherpose.data.datasets import find_dataset
    from featherpose.data.pack import Packing, pack
    from featherpose.data.samples import samples_and_notes
    from featherpose.data.store import open_store
    from featherpose.machine import available_threads

    packing = Packing(image_format, quality, lossless, max_height, shard_size)
    chosen = None if ids is None else read_ids(ids)
    source = find_dataset(data, "" if format == "auto" else format)
    samples, notes = samples_and_notes(source.read(category, chosen), strict=strict)
    packed = pack(
        samples,
        open_store(os.fspath(out)),
        packing,
        threads=threads or available_threads(),
        overwrite=overwrite,
        progress=progress,
    )
    return packed, notes


def train(
    recipe: Recipe | AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    data: AnyPath | None = None,
    val_data: AnyPath | None = None,
    pretrained: AnyPath | None = None,
    strict: bool = False,
    settings: Iterable[str] = (),
    resume: bool = False,
    accept_changed_data: bool = False,
    rebuild_cache: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    compiled: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Recipe (object, its name or that of a network, or YAML file) and folder of the run -> Outcome.

    Weights, training state and the run card are written to the folder.

    Args:
        recipe: None: that of the run to resume, else with `data` the recipe for custom data sets.
        out: None: runs/ and the recipe's name.
        data: folder of shards or a data set of docs/data.md, in place of the recipe's data and skeleton.
        val_data: the same for validation; None: a part of `data`.
        pretrained: weights to initialize from, a file or a shipped name.
        strict: refuse labels that look wrong (`meaning.CHECKS`); the same as the recipe field data.strict.
        settings: "key=value" overrides of recipe fields.
        resume: continue from the training state in `out`; DataError if the labels have changed since the start.
        accept_changed_data: resume with changed labels all the same.
        rebuild_cache: decode all images once more; changed files are noticed without.
        max_minutes: stop after the current step once this many minutes have passed.
        device: "auto", "cpu" or "cuda".
        workers: data loading processes; None: from the core count.
        compiled: compile the network with torch.compile.
        quiet: print nothing.

    Raises:
        RecipeError: no recipe, or one that cannot be trained.
    """
    with _extra("Training", "train"):
        from featherpose.recipes.recipe import Recipe
        from featherpose.training import loop
    if recipe is None and resume and out is not None:
        recipe = Path(out) / "recipe.yaml"
    elif recipe is None and data is not None:
        recipe = CUSTOM_RECIPE
    if recipe is None:
        raise RecipeError(
            "There is no recipe: name one (`featherpose recipe list` lists them), give a data set of your own as data, "
            "or the folder of a run to resume as out."
        )
    if strict:
        settings = [*settings, "data.strict=true"]
    name = recipe.network if isinstance(recipe, Recipe) else Path(recipe).stem
    if (note := recipe_note(recipe)) and not quiet:
        print(note, file=sys.stderr)
    return loop.train(
        open_recipe(recipe, settings, data=data, val_data=val_data, pretrained=pretrained),
        Path("runs") / name if out is None else Path(out),
        resume=resume,
        accept_changed_data=accept_changed_data,
        rebuild_cache=rebuild_cache,
        max_minutes=max_minutes,
        device=device,
        workers=workers,
        compiled=compiled,
        quiet=quiet,
    )


def average(
    weights: Iterable[AnyPath],
    out: AnyPath,
    *,
    data: AnyPath | None = None,
    use_data: bool = True,
    batches: int = 50,
    device: str = "auto",
    workers: int | None = None,
) -> Average:
    """Weights files of several runs of one network (paths or shipped names) -> the file `out` with their mean.

    Norm statistics are estimated anew on training samples of the first file's recipe, and the result is validated.

    Args:
        data: path of the recipe's data set, where the recipe does not find it.
        use_data: without it, norm statistics are averaged like the weights, and nothing is validated.
        batches: batches from which norm statistics are estimated.
        device: "auto", "cpu" or "cuda".
        workers: data loading processes; None: from the core count.

    Raises:
        InputError: fewer than two files, or `out` cannot be written.
        ModelError: files of different models or without metadata, or a recipe whose data cannot be read.
    """
    with _extra("Averaging", "train"):
        from featherpose.training.average import average_weights
    return average_weights(
        list(weights),
        Path(out),
        data=None if data is None else os.fspath(data),
        use_data=use_data,
        batches=batches,
        device=device,
        workers=workers,
    )


def benchmark_latency(
    models: Iterable[AnyPath], *, threads: int = 1, seconds: float = 5.0, input_size: Size | str | None = None
) -> list[Latency]:
    """Shipped names or paths of .onnx files, with or without a manifest -> the latency of each for one input.

    The models run in turn; ratios are to the first one.

    Args:
        threads: of each engine.
        seconds: for each model, in all.
        input_size: height x width in pixels, for files without a manifest that take any size.

    Raises:
        InputError: no model, or an input whose size is not known.
        ModelError: a file that is missing or cannot be loaded.
    """
    from featherpose import weights
    from featherpose.runtime.latency import measure

    found = [(Path(model).name, weights.find(model)) for model in models]
    return measure(
        found, threads=threads, seconds=seconds, input_size=None if input_size is None else Size.of(input_size)
    )


def benchmark_train(
    network: str,
    *,
    options: Mapping[str, Any] | None = None,
    input_size: Size | str = "256x192",
    batch_size: int = 64,
    seconds: float = 20.0,
    steps: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    precision: str = "float32",
    compiled: bool = False,
    data: AnyPath | None = None,
) -> TrainingSpeed:
    """Name of a network -> its training throughput on this machine, with and without data loading.

    Args:
        options: options of the network.
        input_size: height x width in pixels.
        batch_size: samples per step, all processes together.
        seconds: duration of each measurement.
        steps: steps of each measurement, in place of `seconds`.
        device: "auto", "cpu" or "cuda".
        workers: data loading processes; None: from the core count.
        threads: torch threads, which remain set in this process; None: OMP_NUM_THREADS or all cores.
        precision: "float32" or "bf16".
        compiled: compile the network with torch.compile.
        data: folder of shards; None: synthetic samples.

    Raises:
        InputError: a batch that cannot be divided among the processes.
    """
    with _extra("Training", "train"):
        from featherpose.training.benchmark import training_speed
    return training_speed(
        network,
        options=options,
        input_size=Size.of(input_size),
        batch_size=batch_size,
        seconds=seconds,
        steps=steps,
        device=device,
        workers=workers,
        threads=threads,
        precision=precision,
        compiled=compiled,
        data=None if data is None else Path(data),
    )


def open_recipe(
    recipe: Recipe | AnyPath,
    settings: Iterable[str] = (),
    *,
    data: AnyPath | None = None,
    val_data: AnyPath | None = None,
    pretrained: AnyPath | None = None,
) -> Recipe:
    """Recipe (object, its name or that of a network, or YAML file) and "key=value" overrides -> Recipe.

    `data` is a folder of shards or a data set of docs/data.md that replaces the recipe's data and skeleton, `val_data`
    one to validate on in place of a part of `data`. `pretrained` gives the weights to initialize from, a file or a
    shipped name.
    """
    from featherpose.recipes.reading import load, override, with_data
    from featherpose.recipes.recipe import Recipe
    from featherpose.recipes.shipped import get_recipe

    if not isinstance(recipe, Recipe):
        recipe = load(Path(recipe)) if _is_recipe_file(recipe) else get_recipe(os.fspath(recipe))
    if val_data is not None and data is None:
        raise RecipeError("There is validation data but no training data: give both --data and --val-data.")
    if data is not None:
        recipe = with_data(recipe, os.fspath(data), "" if val_data is None else os.fspath(val_data))
    if pretrained is not None:
        recipe = recipe.model_copy(update={"pretrained": os.fspath(pretrained)})
    return override(recipe, settings)


def recipe_note(recipe: Recipe | AnyPath) -> str:
    """Recipe as in `open_recipe` -> for the name of a network, a sentence that says which recipe is used; else ""."""
    from featherpose.recipes.recipe import Recipe
    from featherpose.recipes.shipped import find_recipe

    if isinstance(recipe, Recipe) or _is_recipe_file(recipe):
        return ""
    return find_recipe(os.fspath(recipe))[1]


def _is_recipe_file(recipe: AnyPath) -> bool:
    return Path(recipe).suffix in (".yaml", ".yml")


def recipe_yaml(recipe: Recipe) -> str:
    """Recipe -> all of its fields as YAML, each below a comment that explains it."""
    from featherpose.recipes.reference import to_commented_yaml

    return to_commented_yaml(recipe)


def list_recipes() -> dict[str, Recipe]:
    """The shipped recipes, by name."""
    from featherpose.recipes.shipped import RECIPES

    return dict(RECIPES)


def check_recipe(recipe: Recipe) -> int:
    """Recipe -> number of parameters of its network; raises what `train` would raise before the first step."""
    with _extra("Training", "train"):
        from featherpose.training.tasks import check
    return check(recipe)


def export(
    weights: AnyPath,
    out: AnyPath | None = None,
    *,
    crops: AnyPath | None = None,
    network: str | None = None,
    options: Mapping[str, Any] | None = None,
    skeleton: str | None = None,
    input_size: Size | str | None = None,
    conf: float | str | None = None,
    int8: bool = False,
    data: AnyPath | None = None,
    max_loss: float | None = None,
) -> tuple[Path, Manifest]:
    """Weights file (.safetensors, .pth) of a pose network or a detector, or shipped name -> path of the .onnx file and
    its manifest.

    The file is written only if the parity check (torch against onnxruntime) passes; an int8 file only if its score is
    near that of the float32 file.

    Args:
        out: path of the .onnx file; None: next to the weights, of a shipped name in the current folder.
        crops: folder of images or shards to include in the parity check.
        network: name of the network, for weights that do not record it.
        options: options of the network, beside those that the weights record.
        skeleton: coco17, mpii16, lsp14 or a YAML file, for weights that do not record it.
        input_size: height x width in pixels; None: that of the weights.
        conf: of a detector, lowest score of a box where no other is given; "validation": computed now on the validation
            set of the weights' recipe, so that 90 % of the boxes are right; None: what training computed so.
        int8: 8-bit weights and activations: a third of the size, and faster on most processors (docs/model-format.md).
        data: with int8, a data set of docs/data.md with the model's keypoints: the ranges are calibrated on its
            training samples, and the file is scored on its validation set; None: that of the weights' recipe.
        max_loss: with int8, percentage points of that score that it may cost; None: 1.

    Raises:
        ModelError: weights that lack metadata or do not fit, a parity check that failed, or a larger loss by int8.
    """
    with _extra("Exporting", "export"):
        from featherpose.exporting import export_weights
    return export_weights(
        os.fspath(weights),
        None if out is None else Path(out),
        crops=None if crops is None else Path(crops),
        network=network,
        options=options,
        skeleton=skeleton,
        input_size=None if input_size is None else Size.of(input_size),
        conf=conf,
        int8=int8,
        data=None if data is None else os.fspath(data),
        max_loss=max_loss,
    )


def adopt(
    file: AnyPath,
    family: str,
    out: AnyPath | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    license: str | None = None,
    skeleton: str | None = None,
    input_size: Size | str | None = None,
) -> tuple[Path, Manifest]:
    """ONNX file of another project and its family -> path of the written .onnx file and its manifest.

    The file is written only if it gives what the original gives with its project's own processing (`parity`).

    Args:
        out: path of the written file; None: NAME.featherpose.onnx, beside the original.
        options: options of the family, by name.
        license: terms of the original, as you state them; they stand in the manifest.
        skeleton: a built-in name or a YAML file; None: coco17.
        input_size: height x width in pixels, for a file that takes any size.

    Raises:
        InputError: an unknown family or option, or a skeleton that does not fit.
        ModelError: a file of another layout, or one whose equality could not be proven.
    """
    with _extra("Adopting", "export"):
        from featherpose.foreign.adopt import adopt as adopt_file
    from featherpose.skeleton import find_skeleton

    return adopt_file(
        Path(file),
        family,
        None if out is None else Path(out),
        options=options,
        license=license,
        skeleton=None if skeleton is None else find_skeleton(skeleton),
        input_size=None if input_size is None else Size.of(input_size),
    )


@contextmanager
def _extra(what: str, extra: str) -> Generator[None, None, None]:
    """Raise MissingExtra, which names the extra to install, in place of ModuleNotFoundError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("featherpose"):
            raise
        raise MissingExtra(what, extra) from None
