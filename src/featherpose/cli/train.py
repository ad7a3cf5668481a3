"""featherpose train: a recipe in, weights and a run card out."""

from __future__ import annotations

from pathlib import Path

import click

from featherpose.cli.recipe import SETTINGS

CUSTOM_RECIPE = "custom-feather_pose"
"""The recipe for people of one's own, when none is named."""


@click.command()
@click.argument("recipe", required=False)
@click.option("--data", metavar="PATH", help="Train on these people: a COCO keypoints file (.json), or shards.")
@click.option(
    "--pretrained",
    metavar="MODEL",
    help="Start from these weights: a file, a shipped name such as default, or efficientnet_lite0 (ImageNet).",
)
@SETTINGS
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/RECIPE]")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped or was killed.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after M minutes, resumable.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that prepare batches.  [default: by cores]")
@click.option("--compile", "compiled", is_flag=True, help="Run the network through torch.compile.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
def train(
    recipe: str | None,
    data: str | None,
    pretrained: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    max_minutes: float | None,
    device: str,
    workers: int | None,
    compiled: bool,
    as_json: bool,
) -> None:
    """Train the network of RECIPE, a name (`featherpose recipe list`) or a YAML file.

    Weights, state and a run card go to --out. A run that was stopped with Ctrl-C, by --max-minutes or killed goes on
    with --resume and ends with the same weights. The best weights of the validation part are best.safetensors;
    `featherpose export` makes an ONNX file of them.

    People of your own: --data MY.json --init default starts from the shipped weights with the joints that your file
    names; without a RECIPE, own-feather_pose is used.

    \b
    featherpose train open-cbam_lite_hrnet_18 --max-minutes 60
    featherpose train --resume --out runs/open-cbam_lite_hrnet_18
    featherpose train --data MY.json --init default --out runs/mine
    featherpose train my.yaml --set stages.0.epochs=2 --set network=cbam_lite_hrnet_30
    """
    from featherpose import api

    if resume and out and not recipe:
        recipe = str(out / "recipe.yaml")
    elif data and not recipe:
        recipe = CUSTOM_RECIPE
    if not recipe:
        raise click.UsageError(
            "Name a RECIPE (`featherpose recipe list`), give people of your own with --data, or go on with "
            "--resume --out FOLDER."
        )
    chosen = api.open_recipe(recipe, settings, data=data, pretrained=pretrained)
    outcome = api.train(
        chosen,
        out or Path("runs") / Path(recipe).stem,
        resume=resume,
        max_minutes=max_minutes,
        device=device,
        workers=workers,
        compiled=compiled,
    )
    if as_json:
        import json

        click.echo(json.dumps({"finished": outcome.finished, "folder": str(outcome.folder), "best": outcome.best}))
