"""featherpose average: weights of several runs in, one file with their mean out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featherpose.cli import options

if TYPE_CHECKING:
    from featherpose.training.average import Average


@click.command()
@click.argument("weights", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Path of the .safetensors file to write.")
@click.option("--data", metavar="PATH", help="Data set of the runs.  [default: that of the first file's recipe]")
@click.option("--no-data", is_flag=True, help="Average the norm statistics like the weights; validate nothing.")
@click.option(
    "--batches",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Batches of training samples from which the norm statistics are estimated.",
)
@options.device("Inference")
@options.WORKERS
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def average(
    weights: tuple[str, ...],
    out: Path,
    data: str | None,
    no_data: bool,
    batches: int,
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Average the WEIGHTS of several runs of one network: files (.safetensors) or shipped names.

    The mean is often better than each of the runs, such as two seeds or two ends of one run. The files must have the
    same network, options, keypoints, input and codec. Norm statistics are estimated anew on training samples, and the
    result is validated. The file says what was averaged, and the terms of all of it.

    \b
    featherpose average runs/a/best.safetensors runs/b/best.safetensors --out mean.safetensors
    featherpose average default runs/my/best.safetensors --out mean.safetensors --no-data
    """
    from rich.console import Console

    from featherpose import api

    if data and no_data:
        raise click.UsageError("--data and --no-data: choose one.")
    with Console(stderr=True).status(f"Averaging {len(weights)} files."):
        found = api.average(
            weights, out, data=data, use_data=not no_data, batches=batches, device=device, workers=workers
        )
    if as_json:
        import json

        names = [str(path) for path in found.sources]
        facts = {"file": str(found.path), "sources": names, "batches": found.batches, "results": found.results}
        click.echo(json.dumps(facts))
    else:
        click.echo(describe(found))


def describe(average: Average) -> str:
    """Result of averaging -> two lines for the user."""
    from featherpose.charts import METRIC_NAMES, format_score

    norms = f"norms from {average.batches} batches" if average.batches else "norms averaged, not estimated anew"
    first = f"{average.path}: mean of {len(average.sources)} files, {norms}."
    measured = {name: average.results[name] for name in METRIC_NAMES if name in average.results}
    scores = [f"{METRIC_NAMES[name]} {format_score(name, value)}" for name, value in measured.items()]
    return f"{first}\nValidation: {', '.join(scores)}" if scores else first
