"""featherpose evaluate: a model and labelled photos in, AP and AR or PCKh out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli.progress import progress_bar
from featherpose.errors import InputError
from featherpose.size import Size

if TYPE_CHECKING:
    from featherpose.evaluation.result import Evaluation

COLUMNS = {
    **{"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP(M)": "ap_medium", "AP(L)": "ap_large"},
    **{"AR": "ar", "AR50": "ar50"},
}
"""Column of the table -> field of the scores; those of MPII below."""
MPII_COLUMNS = {
    **{part.capitalize(): part for part in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
    **{"Mean": "mean", "Mean@0.1": "mean_at_01", "Limbs": "limbs"},
}


@click.command()
@click.option(
    "--model", default="default", show_default=True, help="default, small, accurate, another name, or an .onnx file."
)
@click.option("--data", required=True, metavar="FOLDER", help="Photos and their labels (see above).")
@click.option("--format", "data_format", default="coco", show_default=True, help="Of the labels: coco or mpii.")
@click.option("--boxes", default="gt", show_default=True, metavar="gt|FILE", help="Labelled boxes, or a JSON of boxes.")
@click.option("--flip-test", is_flag=True, help="Look at everyone mirrored, too: a little better, half as fast.")
@click.option(
    "--blur-kernel", type=click.IntRange(min=0), default=0, metavar="CELLS", help="Smooth heatmaps first, as 11."
)
@click.option("--refine", is_flag=True, help="Look again, round the joints found: only for bad boxes, half as fast.")
@click.option("--nms", metavar="oks|soft|pose|none", help="How duplicates of detected boxes go.  [default: oks]")
@click.option("--jitter", type=float, default=0.0, metavar="PART", help="Put labelled boxes off by this part, as 0.1.")
@click.option(
    "--padding", type=float, metavar="FACTOR", help="Crop so much wider than the box.  [default: the model's]"
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Everyone's joints.  [default: out/evaluate/MODEL-DATA.results.json]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON on stdout; fractions, 0 to 1.")
def evaluate(
    model: str,
    data: str,
    data_format: str,
    boxes: str,
    flip_test: bool,
    blur_kernel: int,
    refine: bool,
    nms: str | None,
    jitter: float,
    padding: float | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Judge a model on labelled photos: COCO's AP and AR, or MPII's PCKh, in percent.

    \b
    featherpose evaluate --model default --data my-photos
    featherpose evaluate --model pose.onnx --data coco --boxes detections.json --flip
    featherpose evaluate --data my-photos --jitter 0.1 --refine

    FOLDER holds person_keypoints.json and images/, or annotations/ and photos as COCO is published. With --boxes gt
    everyone with a labelled joint is posed in the labelled box; with a file (COCO detections, COCO annotations or
    {"photo.jpg": [[left, top, right, bottom], ...]}) everyone in it, and duplicates are dropped.

    --jitter shows what bad boxes cost: each side of a labelled box moves by a normal draw of this part of the width or
    height (at most twice that, the same draws each time), as a detector errs.

    --nms: oks drops who is like a better one by OKS above 0.9; pose by joint scores and places (RMPE); soft scores
    neighbours down and keeps 20, so it drops nobody from smaller groups; none keeps all.

    \b
    featherpose evaluate --data mpii-test --format mpii --padding 1

    --format mpii: FOLDER holds images/ and people.json, a list with image, joints, joints_vis, center, scale and
    headsize, from 0 where HRNet's files count from 1. Limbs is PCKh@0.5 over arms and legs, all that a model with
    COCO's joints is judged by; Mean is the published one. MPII's squares are roomy: a model that learnt COCO's boxes
    sees people as large as it is used to with --padding 1.

    The poses go to --out, COCO's in COCO's results format. Photos that cannot be used are listed at the end and their
    people count as missed (exit code 1).
    """
    from featherpose import api

    file = out or Path("out/evaluate") / f"{Path(model).stem}-{Path(data).resolve().name}.results.json"
    _refuse_unwritable(file)
    with progress_bar() as progress:
        evaluation = api.evaluate(
            model,
            data,
            format=data_format,
            boxes=boxes,
            flip_test=flip_test,
            blur_kernel=blur_kernel,
            refine=refine,
            nms=nms,
            jitter=jitter,
            padding=padding,
            device=device,
            progress=progress,
        )
    _write(file, evaluation)
    how: dict[str, Any] = {
        "data": data,
        "boxes": boxes,
        "flip_test": flip_test,
        "blur_kernel": blur_kernel,
        "refine": refine,
    }
    how |= {"nms": nms or ("none" if boxes == "gt" else "oks"), "jitter": jitter, "padding": padding}
    how["results"] = str(file)
    _show(evaluation, _describe(model) | how, as_json)
    if evaluation.broken:
        sys.exit(1)


def _refuse_unwritable(file: Path) -> None:
    """Said before the minutes of work, not after them."""
    if file.is_dir():
        raise InputError(f"{file}: a folder, where a file for the results was wanted. Choose another --out.")
    nearest = next(folder for folder in file.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"{file}: cannot be written, {nearest} is no folder to write to. Choose another --out.")


def _write(file: Path, evaluation: Evaluation[Any]) -> None:
    from featherpose import files

    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, json.dumps(evaluation.results).encode())


def _describe(model: str) -> dict[str, Any]:
    """Name or file of a model -> what its manifest says of it."""
    from featherpose import weights
    from featherpose.manifest import read_manifest

    file = weights.find(model)
    manifest = read_manifest(file)
    return {"model": str(file), "network": manifest.network, "input_size": manifest.input_size.to_dict()}


def _show(evaluation: Evaluation[Any], how: dict[str, Any], as_json: bool) -> None:
    """Scores on stdout; what must be known about them on stderr."""
    if as_json:
        click.echo(json.dumps({**how, **evaluation.to_dict()}))
    else:
        _show_table(evaluation, how)
    for warning in evaluation.warnings:
        click.echo(f"Note: {warning}", err=True)
    for line in evaluation.broken:
        click.echo(f"  {line}", err=True)


def _show_table(evaluation: Evaluation[Any], how: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    scores = evaluation.scores.to_dict()
    table = Table(box=None, pad_edge=False)
    columns = COLUMNS if "ap" in scores else MPII_COLUMNS
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row(*(percent(scores[field]) for field in columns.values()))
    Console().print(table)
    test = "with flip" if how["flip_test"] else "no flip"
    extra = f", jitter {how['jitter']}" * bool(how["jitter"]) + ", refined" * how["refine"]
    extra += f", padding {how['padding']}" if how["padding"] else ""
    boxes = how["boxes"] if how["boxes"] == "gt" else f"{how['boxes']}, nms {how['nms']}"
    click.echo(
        f"{how['network']} {Size(**how['input_size'])} ({how['model']}), boxes {boxes}, {test}, blur {how['blur_kernel']}{extra}"
    )
    speed = evaluation.num_instances / evaluation.seconds if evaluation.seconds else 0
    click.echo(
        f"people: {evaluation.num_instances}, photos: {evaluation.num_images} of {how['data']}, in {evaluation.seconds:.1f} s"
        f" ({speed:.0f} people/s); results in {how['results']}"
    )


def percent(fraction: float | None) -> str:
    """Fraction 0 to 1 -> percent with one decimal; a dash where there was nobody to find."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"
