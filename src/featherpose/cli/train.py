"""featherpose train: a recipe in, weights and a run card out."""

from __future__ import annotations

from pathlib import Path

import click

from featherpose.cli import options


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--data",
    metavar="PATH",
    help="Training data: a data set such as coco/train2017 (docs/data.md), an annotation file, or a folder of shards.",
)
@click.option("--val-data", metavar="PATH", help="Validation data, given as --data is.  [default: a part of --data]")
@click.option(
    "--pretrained",
    metavar="MODEL",
    help="Pretrained weights: a file, a shipped name such as default, or efficientnet_lite0 (ImageNet).",
)
@click.option("--strict", is_flag=True, help="Refuse labels that look wrong; the same as --set data.strict=true.")
@options.SETTINGS
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/RECIPE]")
@click.option("--resume", is_flag=True, help="Resume the run in --out that stopped or was killed.")
@click.option("--accept-changed-data", is_flag=True, help="Resume although the labels have changed since the start.")
@click.option("--rebuild-cache", is_flag=True, help="Decode all images once more; changed files are noticed without.")
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this many minutes; continue with --resume.",
)
@options.device("Training")
@options.WORKERS
@options.COMPILE
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def train(
    recipe: str | None,
    data: str | None,
    val_data: str | None,
    pretrained: str | None,
    strict: bool,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    accept_changed_data: bool,
    rebuild_cache: bool,
    max_minutes: float | None,
    device: str,
    workers: int | None,
    compiled: bool,
    as_json: bool,
) -> None:
    """Train the network of RECIPE: a name (`featherpose recipe list`), the name of a network, or a YAML file.

    Weights, training state and a run card are written to --out. A run that Ctrl-C or --max-minutes stopped, or that was
    killed, continues with --resume and ends with the same weights. best.safetensors holds the weights with the best
    score on the validation set (paper-* recipes select none: last.safetensors); `featherpose export` converts them to
    ONNX.

    Custom data set: --data MY.json --pretrained default fine-tunes the shipped weights on the keypoints that your file
    defines. Without a RECIPE, custom-feather_pose is used.

    \b
    featherpose train pretrain-cbam_lite_hrnet_18 --max-minutes 60
    featherpose train hrnet_w32
    featherpose train --resume --out runs/pretrain-cbam_lite_hrnet_18
    featherpose train --data MY.json --pretrained default --out runs/my
    featherpose train my.yaml --set stages.0.epochs=2 --set network=cbam_lite_hrnet_30
    """
    from featherpose import api

    if not recipe and not data and not (resume and out):
        raise click.UsageError(
            "Name a RECIPE (`featherpose recipe list`), give a custom data set with --data, or resume a run with "
            "--resume --out FOLDER."
        )
    outcome = api.train(
        recipe,
        out,
        data=data,
        val_data=val_data,
        pretrained=pretrained,
        strict=strict,
        settings=settings,
        resume=resume,
        accept_changed_data=accept_changed_data,
        rebuild_cache=rebuild_cache,
        max_minutes=max_minutes,
        device=device,
        workers=workers,
        compiled=compiled,
    )
    if as_json:
        import json

        facts = {"finished": outcome.finished, "folder": str(outcome.folder), "weights": str(outcome.weights)}
        click.echo(json.dumps({**facts, "best": outcome.best}))
