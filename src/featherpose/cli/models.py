"""featherpose models: the shipped models, how accurate, fast and large they are; or what one file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featherpose.cli.tables import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from featherpose.manifest import Manifest
    from featherpose.zoo.models import DetectorModel, Model


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def models(model: str | None, as_json: bool) -> None:
    """List the shipped models, the most accurate first; or say what MODEL, a name or an .onnx file, says about itself:
    input and outputs, training, accuracy, parity with torch or the original, terms of use. --json has all of it.

    \b
    featherpose models
    featherpose models yolox_tiny.featherpose.onnx
    featherpose predict portrait.jpg --whole-image --model accurate

    The names and aliases are what --model and --detector take. Architectures that can be trained: featherpose networks.
    """
    from featherpose import api

    if model is not None:
        manifest = api.read_model(model)
        if as_json:
            click.echo(manifest.to_json())
        else:
            _show_manifest(manifest)
        return
    found = api.list_models()
    detectors = api.list_detectors()
    if as_json:
        import json

        from featherpose.kinds import DETECTOR, POSE

        poses = [{"kind": POSE.name, **model.to_dict()} for model in found]
        boxes = [{"kind": DETECTOR.name, **detector.to_dict()} for detector in detectors]
        click.echo(json.dumps(poses + boxes))
    else:
        _show(found)
        click.echo()
        _show_detectors(detectors)


def _show_manifest(manifest: Manifest) -> None:
    from rich.table import Table
    from rich.text import Text

    from featherpose.cli.model_summary import rows_of

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, line in rows_of(manifest):
        table.add_row(subject, Text(line))
    print_table(table)


def _show(found: list[Model]) -> None:
    from featherpose.zoo.models import read_latency

    table = _table("model", "input", "MB", "ms", "ratio", "coco-test AP", "mpii-test PCKh")
    for model in found:
        table.add_row(*_cells(model))
    print_table(table)
    latency = read_latency()
    click.echo(
        f"input: height x width. ms: one image on one thread, {latency['cpu']}; ratio: divided by the\n"
        f"{latency['reference_ms']:.1f} ms of {latency['reference']} in the same run. AP (COCO) and PCKh@0.5 over the"
        " limbs\nin percent, ground-truth boxes, no flip test, 95 % confidence intervals (bootstrap)."
    )


def _show_detectors(detectors: list[DetectorModel]) -> None:
    table = _table("detector", "input", "MB", "coco-test AP", "AP(L)", "recall", "false boxes")
    for model in detectors:
        scores = [f"{model.ap_large:.1f}", f"{model.recall:.1f}", f"{model.false_boxes:.2f}"]
        ap = _with_interval(model.ap, model.ap_interval)
        table.add_row(model.name, model.alias or "", f"{model.long_side} px", f"{model.bytes / 1e6:.1f}", ap, *scores)
    print_table(table)
    click.echo(
        "input: the longer side of an image. AP (COCO) of boxes, AP(L) of people above 96x96 pixels; recall\n"
        "of people taller than a fifth of the image at one false box per image; false boxes per image of\nnobody."
    )


def _table(model: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(model, no_wrap=True)
    table.add_column("alias", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


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
