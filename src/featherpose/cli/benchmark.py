"""featherpose benchmark: how fast things are on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli.export import parse_options, parse_size

if TYPE_CHECKING:
    from featherpose.training.benchmark import TrainingSpeed


@click.group()
def benchmark() -> None:
    """Measure how fast this machine is: `featherpose benchmark train NETWORK`."""


@benchmark.command()
@click.argument("network")
@click.option(
    "--input-size", metavar="HxW", default="256x192", show_default=True, callback=parse_size, help="Of the input."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Images a step.")
@click.option("--seconds", type=click.FloatRange(min=0), default=20, show_default=True, help="To measure each way for.")
@click.option("--steps", type=click.IntRange(min=1), help="To measure each way, in place of --seconds.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that prepare batches.  [default: by cores]")
@click.option("--threads", type=click.IntRange(min=1), help="Of torch.  [default: OMP_NUM_THREADS, or all cores]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    show_default=True,
    help="Of the network's arithmetic.",
)
@click.option("--compile", "compiled", is_flag=True, help="Run the network through torch.compile.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of shards.  [default: synthetic people]")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", callback=parse_options, help="As width=32.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def train(network: str, as_json: bool, **how: Any) -> None:
    """Measure how many images a second NETWORK trains on.

    First the step alone, on the same batch again and again, then the same number of steps with batches from the
    cache, augmented and encoded by worker processes.

    \b
    featherpose benchmark train lite_hrnet_18
    featherpose benchmark train cbam_lite_hrnet_18 --input-size 128x96 --data pose-train
    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m featherpose benchmark train lite_hrnet_18
    """
    from rich.console import Console

    from featherpose import api

    with Console(stderr=True).status(f"Training {network} for a while."):
        speed = api.benchmark_train(network, **how)
    if os.environ.get("RANK", "0") != "0":  # one of several processes speaks
        return
    if as_json:
        import json

        click.echo(json.dumps(speed.to_dict()))
    else:
        _show(speed)


def _show(speed: TrainingSpeed) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(f"{speed.network} {speed.input_size}, batch {speed.batch_size}")
    for column in ("images/s", "waiting for data", "steps"):
        table.add_column(column, justify="right")
    for name, way in (("the same batch", speed.step), ("with loading", speed.loading)):
        table.add_row(name, f"{way.samples_per_s:.1f}", f"{100 * way.waiting:.0f} %", str(way.steps))
    Console().print(table)
    click.echo(
        f"processes: {speed.processes}, threads each: {speed.threads}, workers each: {speed.workers},"
        f" peak memory: {speed.peak_memory / 1e9:.2f} GB; data: {speed.data}"
    )
    facts = speed.machine
    click.echo(f"{facts['gpu'] or facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}, {facts['system']}")
