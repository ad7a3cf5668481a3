"""The command line: one file per verb. A verb is imported when it is called, so that --help stays quick."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

import click

from featherpose.errors import FeatherposeError, did_you_mean

COMMANDS = {
    "predict": "Find poses on photos: pictures with skeletons, and JSON.",
    "models": "List the shipped models: input, latency, accuracy, file size.",
    "networks": "List the network architectures: cost, latency, published scores.",
    "evaluate": "Judge a model on a labelled data set: AP and AR.",
    "train": "Train a network from a recipe.",
    "recipe": "List, show and check recipes.",
    "export": "Turn trained weights into one ONNX file, proven equal.",
    "benchmark": "Measure how fast this machine trains.",
}
"""Verb -> its one line in --help; the verb's function lies in the file of its name."""


class CommandGroup(click.Group):
    """A group whose commands are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f"There is no verb {cmd_name!r}.{did_you_mean(cmd_name, COMMANDS)}")
        return getattr(import_module(f"featherpose.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("featherpose"), prog_name="featherpose")
def featherpose() -> None:
    """Small, fast, honest human pose estimation.

    \b
    Poses on a photo of one person:   featherpose predict photo.jpg --whole-image
    What a verb can do:               featherpose VERB --help
    """


def main() -> None:
    """Run the command line; what featherpose refuses is one line on stderr and exit code 2."""
    try:
        featherpose()
    except FeatherposeError as error:
        click.echo(f"featherpose: {error}", err=True)
        sys.exit(2)
