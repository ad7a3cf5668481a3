"""featherpose adopt: another project's ONNX model in, one file of featherpose out, proven equal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli.options import parse_options, parse_size

if TYPE_CHECKING:
    from featherpose.size import Size


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "family", required=True, metavar="FAMILY", help="Family of the model, from the list above.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Path of the written file.  [default: NAME.featherpose.onnx]"
)
@click.option("--license", help="Terms of the file, as its authors state them; they are kept in the manifest.")
@click.option("--skeleton", help="Skeleton, by name or as a YAML file.  [default: coco17]")
@click.option(
    "--input-size", metavar="HxW", callback=parse_size, help="Input height x width, for a file that takes any size."
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=parse_options,
    help="Option of the family, such as channels=bgr; can be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def adopt(
    file: Path,
    family: str,
    out: Path | None,
    license: str | None,
    skeleton: str | None,
    input_size: Size | None,
    options: dict[str, Any],
    as_json: bool,
) -> None:
    """Wrap FILE, an ONNX model of another project, into a file that every command takes.

    Normalization, decoding and NMS move into the graph. The original file, with its project's own processing, is
    compared with the written one on example images; if they differ, no file is written.

    \b
    featherpose adopt rtmpose-m.onnx --as rtmpose
    featherpose adopt yolox_tiny.onnx --as yolox
    featherpose adopt rtmdet_nano.onnx --as rtmdet --input-size 320x320
    featherpose adopt tinypose_256_192.onnx --as heatmap --option decoding=dark --option kernel=3

    \b
    Families: rtmpose, heatmap, movenet (one person per crop),
    yolo-pose, rtmo (boxes and keypoints),
    rtmdet, yolox, picodet, nanodet, boxes-scores-labels (person detectors).
    Their options: docs/adopt.md.
    """
    from rich.console import Console

    from featherpose import api

    with Console(stderr=True).status(f"Wrapping {file.name} and comparing it with the original."):
        path, manifest = api.adopt(
            file, family, out, options=options, license=license, skeleton=skeleton, input_size=input_size
        )
    if as_json:
        import json

        facts = {"file": str(path), "bytes": path.stat().st_size, "manifest": json.loads(manifest.to_json())}
        click.echo(json.dumps(facts))
        return
    click.echo("\n".join(_lines(manifest.kind, manifest.parity)))
    click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB, kind {manifest.kind}")


def _lines(kind: str, parity: dict[str, Any]) -> list[str]:
    """Kind of a model and the record of its proof -> a short table."""
    compared = {"pose": ["keypoints"], "detector": ["boxes"], "poses": ["boxes", "keypoints"]}[kind]
    lines = [f"{'compared':10} largest difference"]
    lines += [f"{name:10} {parity[name]:.2g} px, allowed {parity['allowed'][name]:g}" for name in compared]
    lines.append(f"{'scores':10} {parity['scores']:.2g}, allowed {parity['allowed']['scores']:g}")
    lines.append(
        f"{len(parity['jumps'])} of {parity['compared']} results differ more, by rounding at a tie or threshold"
    )
    return lines
