"""featherpose predict: images in, images with drawn skeletons and JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featherpose.cli import options
from featherpose.cli.progress import progress_bar

if TYPE_CHECKING:
    from featherpose.runtime.predict import Report

_ROWS = 20


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--whole-image", is_flag=True, help="Each image shows one person who fills it; no boxes needed.")
@click.option(
    "--boxes", type=click.Path(path_type=Path), metavar="FILE", help="JSON file with the person boxes (see above)."
)
@options.MODEL
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder for the results."
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="File for the keypoints; - also prints them on stdout.  [default: OUT/poses.json]",
)
@click.option("--no-draw", is_flag=True, help="Write only the keypoints, no images.")
@click.option(
    "--score-threshold", type=float, default=0.3, show_default=True, help="Draw keypoints with a lower score faintly."
)
@options.FLIP_TEST
@options.REFINE
@options.device("Inference")
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=100,
    show_default=True,
    help="Reject larger images before decoding.",
)
def predict(
    sources: tuple[str, ...],
    whole_image: bool,
    boxes: Path | None,
    model: str,
    out: Path,
    json_file: str | None,
    no_draw: bool,
    score_threshold: float,
    flip_test: bool,
    refine: bool,
    device: str,
    max_megapixels: float,
) -> None:
    """Estimate poses in images. SOURCE is an image, or a folder that is searched recursively.

    \b
    featherpose predict portrait.jpg --whole-image
    featherpose predict holiday/ --boxes people.json --out holiday-poses

    Images with drawn skeletons, and poses.json with all keypoints by name, are written to --out. Images that cannot be
    read are listed at the end, and the others are processed (exit code 1; 2 if all failed).

    This version has no person detector: --boxes gives the person boxes, in pixels of the upright image, as

    \b
    {"image.jpg": [[left, top, right, bottom], ...], "empty.jpg": []}

    or as COCO annotations ({"images": ..., "annotations": ...}), or as COCO detections ([{"image_id": 785, "bbox":
    [left, top, width, height], "score": 0.9}, ...], where image_id is the file name of the image or the number in it).
    """
    from featherpose import api

    with progress_bar() as progress:
        report = api.predict(
            sources,
            model=model,
            boxes=boxes,
            whole_image=whole_image,
            out=out,
            json_file=None if json_file == "-" else json_file,
            device=device,
            flip_test=flip_test,
            refine=refine,
            draw_images=not no_draw,
            score_threshold=score_threshold,
            max_megapixels=max_megapixels,
            progress=progress,
        )
    if device == "auto":
        click.echo(f"Ran on {report.device} with {_count(report.threads, 'thread', 'threads')}.", err=True)
    _show(report, out, as_json=json_file == "-", draw_images=not no_draw)
    if report.failures:
        sys.exit(1 if report.poses else 2)


def _show(report: Report, out: Path, *, as_json: bool, draw_images: bool) -> None:
    """Print the results on stdout and the failures on stderr."""
    if as_json:
        from featherpose.formats.native import to_text

        click.echo(to_text(report.document), nl=False)
    else:
        _show_table(report)
        num_persons = sum(len(found) for found in report.poses.values())
        where = f"keypoints in {report.json_file}" + (f", images in {out}" if draw_images else "")
        found = f"{_count(num_persons, 'person', 'people')} in {_count(len(report.poses), 'image', 'images')}"
        click.echo(f"{found}: {where}")
    if report.failures:
        total = len(report.poses) + len(report.failures)
        click.echo(f"{len(report.failures)} of {total} images failed:", err=True)
        for line in report.failures:
            click.echo(f"  {line}", err=True)


def _show_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", box=None, pad_edge=False)
    for column in ("people", "scores"):
        table.add_column(column, justify="right")
    for name, found in list(report.poses.items())[:_ROWS]:
        best = " ".join(f"{score:.2f}" for score in sorted(found.person_scores.tolist(), reverse=True)[:5])
        table.add_row(name, str(len(found)), best + (" ..." if len(found) > 5 else ""))
    if len(report.poses) > _ROWS:
        table.add_row(f"... and {len(report.poses) - _ROWS} more", "", "")
    if report.poses:
        Console().print(table, markup=False)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
