"""featherpose recipe: list, show and check training recipes."""

from __future__ import annotations

import click

from featherpose.cli import options


@click.group()
def recipe() -> None:
    """List, show and check recipes. A recipe holds everything that decides the result of a training run.

    \b
    featherpose recipe list
    featherpose recipe show pretrain-cbam_lite_hrnet_18 > my.yaml
    featherpose recipe check my.yaml
    """


@recipe.command("list")
@click.argument("word", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print the recipes as JSON on stdout.")
def list_recipes(word: str, as_json: bool) -> None:
    """List the shipped recipes, or those with WORD in their name."""
    from featherpose import api

    found = {name: chosen for name, chosen in api.list_recipes().items() if word in name}
    if as_json:
        import json

        from featherpose.recipes.recipe import to_dict

        click.echo(json.dumps({name: to_dict(chosen) for name, chosen in found.items()}))
        return
    if not found:
        raise click.UsageError(f"No recipe has {word!r} in its name; `featherpose recipe list` shows all.")
    width = max(map(len, found))
    for name, chosen in found.items():
        sizes = ", ".join(f"{stage.epochs} x {stage.size}" for stage in chosen.stages)
        click.echo(f"{name:{width}}  {sizes}; {chosen.optimizer.name}, {chosen.task}")


@recipe.command()
@click.argument("name")
@options.SETTINGS
def show(name: str, settings: tuple[str, ...]) -> None:
    """Print all fields of recipe NAME as YAML, each with its meaning as a comment.

    NAME is a shipped recipe, a network or a YAML file. The output is a complete recipe file, to be edited into a custom
    recipe.
    """
    from featherpose import api

    if note := api.recipe_note(name):
        click.echo(note, err=True)
    click.echo(api.recipe_yaml(api.open_recipe(name, settings)), nl=False)


@recipe.command()
@click.argument("name")
@options.SETTINGS
def check(name: str, settings: tuple[str, ...]) -> None:
    """Check that recipe NAME can be trained.

    Checks what `featherpose train NAME` needs to start: keys, network, data and pretrained weights.
    """
    from featherpose import api

    if note := api.recipe_note(name):
        click.echo(note, err=True)
    chosen = api.open_recipe(name, settings)
    parameters = api.check_recipe(chosen)
    click.echo(f"{name}: valid. {chosen.network}, {parameters:,} parameters, recipe {chosen.digest}.")
