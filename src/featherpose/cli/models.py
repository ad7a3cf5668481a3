"""featherpose models: the shipped models, how accurate, fast and large they are; or what one file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featherpose.cli.tables import print_table

if TYPE_CHECKING:
    from featherpose.zoo.models import Model


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def models(model: str | None, as_json: bool) -> None:
    """List the shipped models, the most accurate first; or print the manifest of MODEL, a name or an .onnx file.

    \b
    featherpose models
    featherpose models yolox_tiny.featherpose.onnx
    featherpose predict portrait.jpg --whole-image --model accurate

    The names and aliases are what --model takes. Architectures that can be trained: featherpose networks.
    """
    from featherpose import api

    if model is not None:
        click.echo(api.read_model(model).to_json())
        return
    found = api.list_models()
    if as_json:
        import json

        click.echo(json.dumps([model.to_dict() for model in found]))
    else:
        _show(found)


def _show(found: list[Model]) -> None:
    from rich.table import Table

    from featherpose.zoo.models import read_latency

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("alias", no_wrap=True)
    for column in ("input", "MB", "ms", "ratio", "coco-test AP", "mpii-test PCKh"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in found:
        table.add_row(*_cells(model))
    print_table(table)
    latency = read_latency()
    click.echo(
        f"input: height x width. ms: one image on one thread, {latency['cpu']}; ratio: divided by the\n"
        f"{latency['reference_ms']:.1f} ms of {latency['reference']} in the same run. AP (COCO) and PCKh@0.5 over the"
        " limbs\nin percent, ground-truth boxes, no flip test, 95 % confidence intervals (bootstrap)."
    )


def _cells(model: Model) -> list[str]:
    return [
        model.name,
        model.alias or "",
        str(model.input_size),
        f"{model.bytes / 1e6:.1f}",
        "" if model.latency_ms is None else f"{model.latency_ms:.1f}",
        "" if model.relative_latency is None else f"{model.relative_latency:.2f}",
        _with_interval(model.ap, model.ap_interval),
        _with_interval(model.pckh, model.pckh_interval),
    ]


def _with_interval(score: float, interval: tuple[float, float]) -> str:
    return f"{score:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"
