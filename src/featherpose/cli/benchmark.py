"""featherpose benchmark: throughput on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli import options

if TYPE_CHECKING:
    from featherpose.runtime.latency import Latency
    from featherpose.size import Size
    from featherpose.training.benchmark import TrainingSpeed


@click.group()
def benchmark() -> None:
    """Measure on this machine.

    \b
    featherpose benchmark latency default small     latency of models
    featherpose benchmark train lite_hrnet_18       throughput of training
    """


@benchmark.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each engine.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=5, show_default=True, help="Duration for each model, in all."
)
@click.option(
    "--input-size",
    metavar="HxW",
    callback=options.parse_size,
    help="Input height x width in pixels, for files without a manifest that take any size.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
def latency(models: tuple[str, ...], threads: int, seconds: float, input_size: Size | None, as_json: bool) -> None:
    """Measure the latency of each MODEL for one input: a shipped name, or any .onnx file.

    Models run in turn, round after round; the ratio is to the first one, in the same round. Models that take whole
    images are measured for one of 640x480.

    \b
    featherpose benchmark latency default small
    featherpose benchmark latency default rtmpose-m.onnx --threads 2
    """
    from rich.console import Console

    from featherpose import api

    with Console(stderr=True).status("Measuring."):
        found = api.benchmark_latency(models, threads=threads, seconds=seconds, input_size=input_size)
    if as_json:
        import json

        click.echo(json.dumps([result.to_dict() for result in found]))
    else:
        _show_latency(found, threads)


def _show_latency(found: list[Latency], threads: int) -> None:
    from rich.table import Table

    from featherpose.cli.tables import print_table
    from featherpose.machine import cpu_model

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for column in ("input", "ms", "10 % to 90 %", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in found:
        spread = f"{result.low_ms:.2f} to {result.high_ms:.2f}"
        table.add_row(result.model, result.kind, result.input, f"{result.ms:.2f}", spread, f"{result.ratio:.2f}")
    print_table(table)
    click.echo(f"One input on {threads} {'thread' if threads == 1 else 'threads'}, {cpu_model()}.")


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
