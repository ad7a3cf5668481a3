"""featherpose predict: photos in, pictures with skeletons and JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featherpose.cli.progress import progress_bar

if TYPE_CHECKING:
    from featherpose.runtime.predict import Report

_ROWS = 20


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--whole-image", is_flag=True, help="Every picture shows one person, who fills it.")
@click.option("--boxes", type=click.Path(path_type=Path), metavar="FILE", help="JSON: who is where (see above).")
@click.option(
    "--model", default="default", show_default=True, help="default, small, accurate, another name, or an .onnx file."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder of the results."
)
@click.option("--json", "json_file", metavar="FILE", help="The joints; - prints them, too.  [default: OUT/poses.json]")
@click.option("--no-draw", is_flag=True, help="Write no pictures, only the joints.")
@click.option("--score-threshold", type=float, default=0.3, show_default=True, help="Draw joints below it faintly.")
@click.option("--flip-test", is_flag=True, help="Look at everyone mirrored, too: a little better, half as fast.")
@click.option("--refine", is_flag=True, help="Look again, round the joints found: only for bad boxes, half as fast.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=100,
    show_default=True,
    help="Refuse larger pictures before they are decoded.",
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
    """Find poses on photos. SOURCE is a picture or a folder, searched to the bottom.

    \b
    featherpose predict portrait.jpg --whole-image
    featherpose predict holiday/ --boxes people.json --out holiday-poses

    Pictures with skeletons and poses.json, every joint by its name, go to --out. A picture that cannot be read is
    listed at the end and the others are done (exit code 1; 2 if none could be done).

    This version finds no people by itself: --boxes says where they are, in pixels of the upright picture, as

    \b
    {"photo.jpg": [[left, top, right, bottom], ...], "empty.jpg": []}

    or as COCO annotations ({"images": ..., "annotations": ...}), or as COCO detections ([{"image_id": 785, "bbox":
    [left, top, width, height], "score": 0.9}, ...], image_id being the photo's name or the number in it).
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
            max_pixels=int(max_megapixels * 1e6),
            progress=progress,
        )
    if device == "auto":
        click.echo(f"Ran on {report.device} with {_count(report.threads, 'thread', 'threads')}.", err=True)
    _show(report, out, as_json=json_file == "-", draw_images=not no_draw)
    if report.failures:
        sys.exit(1 if report.poses else 2)


def _show(report: Report, out: Path, *, as_json: bool, draw_images: bool) -> None:
    """Results on stdout, failures on stderr."""
    if as_json:
        from featherpose.formats.native import to_text

        click.echo(to_text(report.document), nl=False)
    else:
        _show_table(report)
        people = sum(len(found) for found in report.poses.values())
        where = f"joints in {report.json_file}" + (f", pictures in {out}" if draw_images else "")
        found = f"{_count(people, 'person', 'people')} on {_count(len(report.poses), 'photo', 'photos')}"
        click.echo(f"{found}: {where}")
    if report.failures:
        total = len(report.poses) + len(report.failures)
        click.echo(f"{len(report.failures)} of {total} could not be done:", err=True)
        for line in report.failures:
            click.echo(f"  {line}", err=True)


def _show_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("photo", box=None, pad_edge=False)
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
