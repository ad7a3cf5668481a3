"""featherpose export: trained weights in, one ONNX file with a passed parity check out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featherpose.cli.options import NETWORK_OPTIONS, parse_score, parse_size

if TYPE_CHECKING:
    from featherpose.manifest import DetectorManifest, PoseManifest
    from featherpose.size import Size


@click.command()
@click.argument("weights")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Path of the .onnx file.  [default: next to WEIGHTS, of a shipped name here]",
)
@click.option(
    "--crops", type=click.Path(path_type=Path), help="Folder of images or shards to include in the parity check."
)
@click.option(
    "--input-size",
    metavar="HxW",
    callback=parse_size,
    help="Input height x width in pixels.  [default: from WEIGHTS]",
)
@click.option("--network", help="Name of the network, for weights that do not record it (.pth).")
@NETWORK_OPTIONS
@click.option("--skeleton", help="Skeleton, for weights that do not record it: coco17, mpii16, lsp14 or a YAML file.")
@click.option(
    "--conf",
    metavar="SCORE|validation",
    callback=parse_score,
    help="Of a person detector, lowest score of a box where no other is given; validation: computed on the validation "
    "set of its recipe, so that 90 % of the boxes are right.  [default: what training computed so, else 0.3]",
)
@click.option("--int8", is_flag=True, help="8-bit weights and activations (see above).")
@click.option(
    "--data",
    metavar="PATH",
    help="With --int8, a data set with the model's keypoints.  [default: that of the recipe]",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="With --int8, percentage points of the score that it may cost.  [default: 1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def export(
    weights: str,
    out: Path | None,
    crops: Path | None,
    input_size: Size | None,
    network: str | None,
    options: dict[str, Any],
    skeleton: str | None,
    conf: float | str | None,
    int8: bool,
    data: str | None,
    max_loss: float | None,
    as_json: bool,
) -> None:
    """Export WEIGHTS (.safetensors, .pth, or a shipped name) to one ONNX file: uint8 crops in; keypoints, scores and
    heatmaps out.

    From the weights of a person detector: a uint8 image in; boxes and scores out.

    A parity check compares torch with onnxruntime on photographs and on synthetic crops. If it fails, no file is
    written. The manifest in the file holds the parity result, the skeleton, the training and its terms.

    --int8 writes a pose network with 8-bit convolutions, a third of the size. Their ranges are calibrated on 256
    training samples of the recipe's data set, or of --data, and the file is scored on its validation set: if it loses
    more than --max-loss, no file is written. `featherpose benchmark latency` shows whether it is faster here.

    \b
    featherpose export runs/pretrain-cbam_lite_hrnet_18/best.safetensors
    featherpose export runs/mine/best.safetensors --int8
    featherpose export default --int8 --data coco/val2017
    featherpose export litehrnet.pth --network lite_hrnet_18 --skeleton coco17 --input-size 256x192
    """
    from rich.console import Console

    from featherpose import api

    with Console(stderr=True).status(f"Exporting {Path(weights).name} and checking parity; this takes up to a minute."):
        path, manifest = api.export(
            weights,
            out,
            crops=crops,
            input_size=input_size,
            network=network,
            options=options,
            skeleton=skeleton,
            conf=conf,
            int8=int8,
            data=data,
            max_loss=max_loss,
        )
    if as_json:
        import json

        facts = {"file": str(path), "bytes": path.stat().st_size, "manifest": json.loads(manifest.to_json())}
        click.echo(json.dumps(facts))
    else:
        from featherpose.manifest import DetectorManifest, PoseManifest, of_kind

        lines = (
            _detector_lines(manifest)
            if isinstance(manifest, DetectorManifest)
            else _pose_lines(of_kind(manifest, PoseManifest, path))
        )
        click.echo("\n".join([*lines, f"{path}  {path.stat().st_size / 1e6:.1f} MB"]))


def _detector_lines(manifest: DetectorManifest) -> list[str]:
    """Manifest of a detector -> its parity result as a short table, and its score threshold."""
    parity = manifest.parity
    allowed = parity["allowed"]
    engines = ", ".join(f"{name} {version}" for name, version in parity["engines"].items())
    return [
        f"{'output':12} {'shape':8} largest difference",
        f"{'boxes_xyxy':12} {'(M, 4)':8} {parity['boxes']:.2g} px, allowed {allowed['boxes']:g}",
        f"{'scores':12} {'(M,)':8} {parity['scores']:.2g}, allowed {allowed['scores']:g}",
        f"{parity['boxes_compared']} boxes compared, in {len(parity['images'])} images ({engines})",
        f"boxes with a score of at least {manifest.conf:g} count as people",
    ]


def _pose_lines(manifest: PoseManifest) -> list[str]:
    """Manifest of a pose network -> its parity result as a short table; of an int8 file its scores."""
    parity = manifest.parity
    if "int8" in parity:
        found = parity["int8"]
        mean, low, high = found["difference"]
        return [
            f"{found['score']} of {found['persons']} persons of the validation set: {found['float32']:.1f} in float32,"
            f" {found['int8']:.1f} in int8, {mean:+.1f} ({low:+.1f} to {high:+.1f})"
        ]
    allowed = parity["allowed"]
    jumps = parity["jumps"]
    height, width = manifest.make_codec().heatmap_size.shape
    num_keypoints = manifest.skeleton.num_keypoints
    engines = ", ".join(f"{name} {version}" for name, version in parity["engines"].items())
    rows = [
        ("output", "shape", "largest difference"),
        ("keypoints", f"(N, {num_keypoints}, 2)", f"{parity['keypoints']:.2g} px, allowed {allowed['keypoints']:g}"),
        ("scores", f"(N, {num_keypoints})", f"{parity['scores']:.2g}"),
        (
            "heatmaps",
            f"(N, {num_keypoints}, {height}, {width})",
            f"{parity['heatmaps']:.2g} of their range, allowed {allowed['heatmaps']:g}",
        ),
    ]
    lines = [f"{name:10} {shape:16} {difference}" for name, shape, difference in rows]
    tested_crops = f"{len(parity['crops'])} crops ({engines})"
    lines.append(
        f"{len(jumps)} of {parity['keypoints_compared']} keypoints moved (ties, flat heatmaps), in {tested_crops}"
    )
    lines += [f"  {jump['keypoint']} on {jump['crop']}: {jump['pixels']:.3g} px" for jump in jumps]
    if loaded := manifest.training.get("weights"):
        lines.append(loaded)
    return lines
