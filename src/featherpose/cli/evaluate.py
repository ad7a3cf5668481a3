"""featherpose evaluate: a model and a labeled data set in; AP and AR, or PCKh, out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli import options
from featherpose.cli.diagnosis import show_diagnosis, write_reliability
from featherpose.cli.progress import progress_bar
from featherpose.cli.tables import percent, print_table
from featherpose.size import Size

if TYPE_CHECKING:
    from featherpose.evaluation.result import Evaluation

COLUMNS = {
    **{"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP(M)": "ap_medium", "AP(L)": "ap_large"},
    **{"AR": "ar", "AR50": "ar50"},
}
"""Column of the table -> field of the COCO scores; `MPII_COLUMNS` are those of MPII."""
MPII_COLUMNS = {
    **{part.capitalize(): part for part in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
    **{"Mean": "mean", "Mean@0.1": "mean_at_01", "Limbs": "limbs"},
}
LSP_COLUMNS = {
    **{part.capitalize(): part for part in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
    **{"PCK@0.2": "pck", "Limbs": "limbs"},
}
CROWD_COLUMNS = {
    **{"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AR": "ar"},
    **{"AP easy": "ap_easy", "medium": "ap_medium", "hard": "ap_hard"},
}
DETECTOR_COLUMNS = {
    **{"AP": "ap", "AP50": "ap50", "AP(S)": "ap_small", "AP(M)": "ap_medium", "AP(L)": "ap_large"},
    **{"AR": "ar", "recall": "recall"},
}


@click.command()
@options.MODEL
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="Labeled data set (see above): a folder, an annotation file, or FOLDER/SPLIT, such as coco/val2017.",
)
@options.FORMAT
@options.IDS
@click.option(
    "--boxes",
    default="gt",
    show_default=True,
    metavar="gt|detector|FILE",
    help="gt for ground-truth boxes, detector for those that it finds, or a JSON file with boxes.",
)
@click.option(
    "--detector",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="Person detector, with --boxes detector: a shipped one or an .onnx file.",
)
@click.option(
    "--conf",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    help="Lowest score of a box that it finds; AP ranks all boxes, so this is lower than in predict.  [default: 0.01]",
)
@options.CATEGORY
@options.STRICT
@options.FLIP_TEST
@click.option(
    "--blur-kernel",
    type=click.IntRange(min=0),
    default=0,
    metavar="CELLS",
    help="Width of the Gaussian filter applied to heatmaps before decoding, such as 11; 0 for none.",
)
@options.REFINE
@click.option(
    "--nms",
    type=click.Choice(["oks", "soft", "pose", "none"]),
    help="NMS method that suppresses duplicates of detected boxes.  [default: oks]",
)
@click.option(
    "--jitter",
    type=float,
    default=0.0,
    metavar="FRACTION",
    help="Box jitter: shift the sides of ground-truth boxes at random by this fraction, such as 0.1.",
)
@click.option(
    "--padding", type=float, metavar="FACTOR", help="Size of the crop relative to the box.  [default: the model's]"
)
@click.option(
    "--intervals",
    is_flag=True,
    help="Also compute the 95 % confidence interval of each score: seconds for a thousand images.",
)
@click.option(
    "--diagnosis",
    is_flag=True,
    help="Also print where keypoints fall, the kinds of error and the AP that each costs, and what scores mean.",
)
@options.device("Inference")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File for the predicted keypoints.  [default: out/evaluate/MODEL-DATA.results.json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON on stdout, as fractions from 0 to 1.")
def evaluate(
    model: str,
    data: str,
    data_format: str,
    ids: str | None,
    boxes: str,
    detector: str,
    conf: float | None,
    category: str | None,
    strict: bool,
    flip_test: bool,
    blur_kernel: int,
    refine: bool,
    nms: str | None,
    jitter: float,
    padding: float | None,
    intervals: bool,
    diagnosis: bool,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a model on a labeled data set: AP and AR, PCKh or PCK, in percent.

    \b
    featherpose evaluate --model default --data my-data
    featherpose evaluate --model pose.onnx --data coco --boxes detections.json --flip-test
    featherpose evaluate --data my-data --jitter 0.1 --refine

    PATH is a data set as published (COCO, MPII, LSP, CrowdPose), as a label tool exports it (COCO, YOLO), or a file in
    COCO's format; docs/data.md describes each. A relative path is also looked up in the data folder,
    ~/.cache/featherpose/data or data/ in FEATHERPOSE_DATA. Where a folder has several splits, name one behind it:
    coco/val2017. Of coco/test-dev2017 and mpii/test, whose annotations are withheld, the file to upload is written
    beside --out. --ids evaluates on a part of the images.

    With --boxes gt every person with a labeled keypoint is evaluated in the ground-truth box. With a file (COCO
    detections, COCO annotations or {"image.jpg": [[left, top, right, bottom], ...]}) every box in it is used, and
    duplicates are suppressed.

    \b
    featherpose evaluate --data my-data --boxes detector

    --boxes detector evaluates what predict does: the detector finds the boxes, and duplicates are suppressed by OKS.
    The scores in ground-truth boxes and the difference stand beside it. The 100 best boxes of each image with a score
    of at least 0.01 are used, because AP ranks them; predict leaves out those below the --conf in the detector's file.

    --jitter measures the effect of inaccurate boxes. Each side of a ground-truth box is shifted by a normally
    distributed error, like that of a detector, whose standard deviation is this fraction of the width or height. The
    error is clipped at two deviations, and the draws are the same in every run.

    --nms: oks suppresses a pose whose OKS with a higher-scoring one is above 0.9. pose compares keypoint scores and
    positions (RMPE). soft lowers the scores of neighbors and keeps 20, so it suppresses none in smaller groups. none
    keeps all.

    \b
    featherpose evaluate --data mpii-test --padding 1
    featherpose evaluate --data lsp-test

    MPII is evaluated by PCKh in the squares given by center and scale. Limbs is PCKh@0.5 over arms and legs, the only
    score of a model with COCO keypoints; Mean is the published metric. MPII's square boxes are larger than COCO's: with
    --padding 1 a model trained on COCO boxes gets persons at the scale it was trained on. LSP is evaluated by PCK at
    0.2 of the torso (left shoulder to right hip), CrowdPose by AP and AR and the AP of images that are easy, medium and
    hard by their crowd index.

    A one-stage model finds the people by itself, in all images; options of boxes and crops do not apply.

    A person detector is evaluated on all labeled boxes: COCO's box AP and AR; recall is that of people taller than a
    fifth of the image at one false box per image.

    --intervals draws the images of the data set with replacement 200 times (bootstrap) and prints the bounds between
    which the middle 95 % of the scores lie. Differences of two models: featherpose compare.

    --diagnosis counts on what each labeled keypoint's prediction falls, within OKS 0.5 or PCKh 0.5: the right keypoint
    (their share is the overall accuracy), another one of the same person, one of another person, or nothing. For COCO
    it adds the kinds of error of Ronchi and Perona (2017) and the calibration of the keypoint scores. --json holds the
    whole confusion matrix; docs/evaluation.md says what each number means.

    The poses are written to --out, for COCO in the COCO results format. Images that cannot be used are listed at the
    end; the persons in them count as missed (exit code 1).
    """
    from featherpose import api, weights
    from featherpose.nms import MIN_SCORE

    file = out or Path("out/evaluate") / f"{Path(model).stem}-{Path(data).resolve().name}.results.json"
    with progress_bar() as progress:
        evaluation = api.evaluate(
            model,
            data,
            format=data_format,
            ids=ids,
            boxes=boxes,
            detector=detector,
            conf=conf,
            category=category,
            strict=strict,
            flip_test=flip_test,
            blur_kernel=blur_kernel,
            refine=refine,
            nms=nms,
            jitter=jitter,
            padding=padding,
            intervals=intervals,
            diagnosis=diagnosis,
            device=device,
            out=file,
            progress=progress,
        )
    settings: dict[str, Any] = {
        "data": data,
        "boxes": boxes,
        "flip_test": flip_test,
        "blur_kernel": blur_kernel,
        "refine": refine,
    }
    settings |= {"nms": nms or ("none" if boxes == "gt" else "oks"), "jitter": jitter, "padding": padding}
    settings["results"] = str(file)
    if boxes == "detector":
        settings |= {"detector": str(weights.find_detector(detector)), "conf": MIN_SCORE if conf is None else conf}
    _show(evaluation, _describe(model) | settings, as_json)
    if evaluation.broken:
        sys.exit(1)


def _describe(model: str) -> dict[str, Any]:
    """Name or file of a model -> its file, and network and input size, or length of the long side, from its
    manifest."""
    from featherpose import weights
    from featherpose.manifest import ImageManifest, PoseManifest, of_kind, read_manifest

    file = weights.find(model)
    manifest = read_manifest(file)
    if isinstance(manifest, ImageManifest):
        return {"model": str(file), "network": manifest.network, "long_side": manifest.long_side}
    input_size = of_kind(manifest, PoseManifest, file).input_size
    return {"model": str(file), "network": manifest.network, "input_size": input_size.to_dict()}


def _show(evaluation: Evaluation[Any], settings: dict[str, Any], as_json: bool) -> None:
    """Print the scores on stdout, and warnings and unusable images on stderr."""
    if as_json:
        click.echo(json.dumps({**settings, **evaluation.to_dict()}))
    else:
        _show_table(evaluation, settings)
    for counts in evaluation.counts:
        for sentence in counts.sentences():
            click.echo(sentence, err=True)
    for warning in evaluation.warnings:
        click.echo(f"Warning: {warning}", err=True)
    for line in evaluation.broken:
        click.echo(f"  {line}", err=True)


def _show_table(evaluation: Evaluation[Any], settings: dict[str, Any]) -> None:
    from rich.table import Table

    scores = evaluation.scores.to_dict()
    table = Table(box=None, pad_edge=False)
    is_detector = "false_boxes" in scores
    columns = _columns(scores)
    rows = _rows(evaluation)
    if len(rows) > 1:
        table.add_column("boxes" if evaluation.gt_scores else "")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        cells = [percent(row.get(field)) for field in columns.values()]
        table.add_row(*([name] if len(rows) > 1 else []), *cells)
    print_table(table)
    if is_detector:
        click.echo(f"{settings['network']}, long side {settings['long_side']} px ({settings['model']})")
        if (false_boxes := scores["false_boxes"]) is not None:
            click.echo(f"{false_boxes:.2f} false boxes per image without anyone")
        if (conf := scores["conf_at_90"]) is not None:
            click.echo(f"90 % of the boxes are right at a score of at least {conf:.3f}")
    else:
        click.echo(_settings_line(settings))
    if evaluation.diagnosis is not None:
        show_diagnosis(evaluation.diagnosis)
        calibration = evaluation.diagnosis.calibration
        if calibration is not None and calibration.number:
            chart = Path(settings["results"]).with_suffix(".reliability.svg")
            write_reliability(calibration, chart)
            click.echo(f"reliability curve in {chart}")
    speed = evaluation.num_instances / evaluation.seconds if evaluation.seconds else 0
    click.echo(
        f"instances: {evaluation.num_instances}, images: {evaluation.num_images} of {settings['data']},"
        f" in {evaluation.seconds:.1f} s ({speed:.0f} instances/s); results in {settings['results']}"
    )
    if evaluation.submission:
        click.echo(f"The annotations are withheld; file to upload: {evaluation.submission}")


def _columns(scores: dict[str, float | None]) -> dict[str, str]:
    """Scores by field -> columns of their table: those of the kind whose fields they are."""
    kinds = {"false_boxes": DETECTOR_COLUMNS, "ap_easy": CROWD_COLUMNS, "ap": COLUMNS, "pck": LSP_COLUMNS}
    return next((columns for field, columns in kinds.items() if field in scores), MPII_COLUMNS)


def _rows(evaluation: Evaluation[Any]) -> dict[str, Mapping[str, float | None]]:
    """The scores, those of labeled boxes and the difference where boxes were detected, and the bounds of intervals."""
    rows: dict[str, Mapping[str, float | None]] = {}
    if evaluation.gt_scores is not None:
        rows["gt"] = evaluation.gt_scores.to_dict()
    rows["score" if evaluation.gt_scores is None else "detector"] = evaluation.scores.to_dict()
    if evaluation.gt_scores is not None:
        rows["difference"] = evaluation.difference()
    if evaluation.intervals:
        rows["95 % from"] = {name: low for name, (low, _) in evaluation.intervals.items()}
        rows["95 % to"] = {name: high for name, (_, high) in evaluation.intervals.items()}
    return rows


def _settings_line(settings: dict[str, Any]) -> str:
    """Network, boxes and options of an evaluation of poses."""
    if "long_side" in settings:
        return f"{settings['network']}, long side {settings['long_side']} px ({settings['model']}), without boxes"
    test = "flip test" if settings["flip_test"] else "no flip test"
    extra = ""
    if settings["jitter"]:
        extra += f", jitter {settings['jitter']}"
    if settings["refine"]:
        extra += ", refined"
    if settings["padding"]:
        extra += f", padding {settings['padding']}"
    boxes = settings["boxes"] if settings["boxes"] == "gt" else f"{settings['boxes']}, nms {settings['nms']}"
    if settings["boxes"] == "detector":
        boxes = f"of {settings['detector']} with a score of at least {settings['conf']:g}"
    return (
        f"{settings['network']} {Size(**settings['input_size'])} ({settings['model']}), boxes {boxes}, {test},"
        f" blur kernel {settings['blur_kernel']}{extra}"
    )
