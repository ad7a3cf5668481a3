"""featherpose compare: two models on one data set; the columns of the paper's tables and the paired difference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from featherpose.cli import options
from featherpose.cli.progress import progress_bar
from featherpose.cli.tables import percent, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from featherpose.evaluation.compare import Comparison, Row

_PARTS = {part.capitalize(): part for part in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
SCORES = {
    "AP": {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "AP(M)": "ap_medium", "AP(L)": "ap_large", "AR": "ar"},
    "PCKh@0.5": {**_PARTS, "Mean": "mean", "Limbs": "limbs"},
    "PCK@0.2": {**_PARTS, "Mean": "pck", "Limbs": "limbs"},
}
"""Metric -> columns in the paper's order, and their fields."""
WIDTH = 150
"""Columns that the table needs with long names."""


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--data", required=True, metavar="FOLDER", help="Folder with images and labels, as for evaluate.")
@options.FORMAT
@click.option(
    "--boxes",
    default="gt",
    show_default=True,
    metavar="gt|FILE",
    help="gt for ground-truth boxes, or a JSON file with the boxes of a detector.",
)
@options.CATEGORY
@options.FLIP_TEST
@click.option(
    "--padding", type=float, metavar="FACTOR", help="Size of the crop relative to the box.  [default: each model's]"
)
@click.option("--published", is_flag=True, help="Also list the published scores of all networks, which are marked.")
@options.device("Inference")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout, scores as fractions.")
def compare(
    first: str,
    second: str,
    data: str,
    data_format: str,
    boxes: str,
    category: str | None,
    flip_test: bool,
    padding: float | None,
    published: bool,
    device: str,
    as_json: bool,
) -> None:
    """Compare two models on one data set: scores, and the difference with its 95 % confidence interval.

    \b
    featherpose compare small default --data coco-test
    featherpose compare small runs/mine/best.onnx --data my-data --published
    featherpose compare out/evaluate/a.results.json out/evaluate/b.results.json --data coco-test

    A and B are shipped names, .onnx files, or (COCO only) the results that evaluate wrote. The columns are those of the
    paper's tables, in their order. GFLOPs counts multiply-accumulates, as the paper does; at another input than the one
    in "featherpose networks" it is in proportion to the area. Networks with other options are counted if torch is
    installed.

    The difference is B - A on the same images. Its interval comes from 200 draws of the images with replacement, the
    same for both models (paired bootstrap): if it does not contain 0, another such data set would most likely show a
    difference of the same sign. Training runs vary as well, which it does not cover.
    """
    from featherpose import api

    with progress_bar() as progress:
        found = api.compare(
            first,
            second,
            data,
            format=data_format,
            boxes=boxes,
            category=category,
            flip_test=flip_test,
            padding=padding,
            published=published,
            device=device,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    print_table(comparison_table(found), WIDTH)
    if found.published:
        click.echo(
            "* published there, on other images (protocols: featherpose networks NAME); #Params and GFLOPs are those of"
            " the network here"
        )


def comparison_table(found: Comparison) -> Table:
    """Both models, the difference and its interval in points, and published rows."""
    from rich.table import Table

    columns = SCORES[found.metric]
    table = Table(box=None, pad_edge=False)
    for column in ("Method", "Backbone", "Pretrain", "Input size"):
        table.add_column(column, no_wrap=column != "Method")
    for column in ("#Params", "GFLOPs", *columns):
        table.add_column(column, justify="right", no_wrap=True)
    for row in (found.first, found.second):
        table.add_row(*_cells(row, columns))
    differences = [found.differences.get(name) for name in columns.values()]
    table.add_row("difference", *[""] * 5, *("-" if d is None else f"{100 * d.mean:+.1f}" for d in differences))
    table.add_row("95 % from", *[""] * 5, *("-" if d is None else f"{100 * d.low:+.1f}" for d in differences))
    table.add_row("95 % to", *[""] * 5, *("-" if d is None else f"{100 * d.high:+.1f}" for d in differences))
    for row in found.published:
        table.add_row(*_cells(row, columns))
    return table


def _cells(row: Row, columns: dict[str, str]) -> list[str]:
    return [
        f"* {row.method}" if row.published else row.method,
        row.backbone or "-",
        {True: "yes", False: "no", None: "-"}[row.pretrained],
        row.input_size or "-",
        "-" if row.parameters is None else f"{row.parameters / 1e6:.2f}M",
        "-" if row.gflops is None else f"{row.gflops:.2f}",
        *(percent(row.scores.get(field)) for field in columns.values()),
    ]
