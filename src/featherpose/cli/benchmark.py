"""featherpose benchmark: throughput on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli import options

if TYPE_CHECKING:
    from featherpose.training.benchmark import TrainingSpeed


@click.group()
def benchmark() -> None:
    """Measure throughput on this machine: `featherpose benchmark train NETWORK`."""


@benchmark.command()
@click.argument("network")
@click.option(
    "--input-size",
    metavar="HxW",
    default="256x192",
    show_default=True,
    callback=options.parse_size,
    help="Input height x width in pixels.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Samples per step, all processes together.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=20, show_default=True, help="Duration of each measurement."
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each measurement, in place of --seconds.")
@options.device("Training")
@options.WORKERS
@click.option("--threads", type=click.IntRange(min=1), help="Torch threads.  [default: OMP_NUM_THREADS, or all cores]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    show_default=True,
    help="Floating-point format of the network.",
)
@options.COMPILE
@click.option("--data", type=click.Path(path_type=Path), help="Folder of shards.  [default: synthetic samples]")
@options.NETWORK_OPTIONS
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
def train(network: str, as_json: bool, **arguments: Any) -> None:
    """Measure the training throughput of NETWORK in samples per second.

    First the training step alone, on one fixed batch, then the same number of steps with batches that worker processes
    read from the cache, augment and encode.

    \b
    featherpose benchmark train lite_hrnet_18
    featherpose benchmark train cbam_lite_hrnet_18 --input-size 128x96 --data pose-train
    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m featherpose benchmark train lite_hrnet_18
    """
    from rich.console import Console

    from featherpose import api

    with Console(stderr=True).status(f"Measuring {network}."):
        speed = api.benchmark_train(network, **arguments)
    if os.environ.get("RANK", "0") != "0":  # of several processes, only the first prints
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
    for column in ("samples/s", "waiting for data", "steps"):
        table.add_column(column, justify="right")
    for name, measurement in (("one fixed batch", speed.step), ("with DataLoader", speed.loading)):
        table.add_row(
            name, f"{measurement.samples_per_s:.1f}", f"{100 * measurement.waiting:.0f} %", str(measurement.steps)
        )
    Console().print(table)
    click.echo(
        f"processes: {speed.processes}, threads per process: {speed.threads}, workers per process: {speed.workers},"
        f" peak memory: {speed.peak_memory / 1e9:.2f} GB; data: {speed.data}"
    )
    facts = speed.machine
    click.echo(f"{facts['gpu'] or facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}, {facts['system']}")
