"""featherpose recipe: which recipes there are, what is in one, whether it is right."""

from __future__ import annotations

import click

SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field, as optimizer.lr=0.002."
)


@click.group()
def recipe() -> None:
    """A recipe says everything that decides the outcome of a training run.

    \b
    featherpose recipe list
    featherpose recipe show open-cbam_lite_hrnet_18 > mine.yaml
    featherpose recipe check mine.yaml
    """


@recipe.command("list")
@click.argument("word", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def list_recipes(word: str, as_json: bool) -> None:
    """The recipes that come with featherpose, or those with WORD in their name."""
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
        sizes = ", ".join(f"{stage.epochs} x {stage.input_size}" for stage in chosen.stages)
        click.echo(f"{name:{width}}  {sizes}; {chosen.optimizer.name}, {chosen.codec}")


@recipe.command()
@click.argument("name")
@SETTINGS
def show(name: str, settings: tuple[str, ...]) -> None:
    """Print the whole recipe NAME (ours, or a YAML file) as YAML: a start for your own."""
    from featherpose import api

    click.echo(api.recipe_yaml(api.open_recipe(name, settings)), nl=False)


@recipe.command()
@click.argument("name")
@SETTINGS
def check(name: str, settings: tuple[str, ...]) -> None:
    """Say whether `featherpose train NAME` could start: keys, network, data, weights to start from."""
    from featherpose import api

    chosen = api.open_recipe(name, settings)
    parameters = api.check_recipe(chosen)
    click.echo(f"{name}: right. {chosen.network}, {parameters:,} parameters, recipe {chosen.digest}.")
