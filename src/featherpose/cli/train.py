"""featherpose train: a recipe in, weights and a run card out."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("recipe", required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field, as optimizer.rate=0.002.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/RECIPE]")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped or was killed.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after M minutes, resumable.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that prepare batches.  [default: by cores]")
@click.option("--list", "list_recipes", is_flag=True, help="Print the names of the recipes that come with featherpose.")
@click.option("--show", is_flag=True, help="Print the whole recipe as YAML and stop: a start for your own.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
def train(
    recipe: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    max_minutes: float | None,
    device: str,
    workers: int | None,
    list_recipes: bool,
    show: bool,
    as_json: bool,
) -> None:
    """Train the network of RECIPE, a name or a YAML file.

    Weights, state and a run card go to --out. A run that was stopped with Ctrl-C, by --max-minutes or killed goes on
    with --resume and ends with the same weights. The best weights of the validation part are best.safetensors;
    `featherpose export` makes an ONNX file of them.

    \b
    featherpose train open-cbam_lite_hrnet_18 --max-minutes 60
    featherpose train --resume --out runs/open-cbam_lite_hrnet_18
    featherpose train my.yaml --set stages.0.epochs=2 --set network=cbam_lite_hrnet_30
    """
    from featherpose import api

    if list_recipes:
        click.echo("\n".join(api.list_recipes()))
        return
    if not recipe and not (resume and out):
        raise click.UsageError("Name a RECIPE (--list shows ours), or go on with --resume --out FOLDER.")
    chosen = api.open_recipe(recipe or str(out / "recipe.yaml" if out else ""), settings)
    if show:
        click.echo(api.recipe_yaml(chosen), nl=False)
        return
    folder = out or Path("runs") / Path(recipe or "").stem
    outcome = api.train(chosen, folder, resume=resume, max_minutes=max_minutes, device=device, workers=workers)
    if as_json:
        import json

        click.echo(json.dumps({"finished": outcome.finished, "folder": str(outcome.folder), "best": outcome.best}))
