"""Command line interface: one file per command. A command is imported when it is called, to keep --help fast."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper

import click

from featherpose.errors import FeatherposeError, did_you_mean

COMMANDS = {
    "predict": "Estimate poses in images and videos: drawn skeletons and JSON.",
    "models": "List the shipped models, or show what one says about itself.",
    "networks": "List the network architectures: cost, latency, published scores.",
    "evaluate": "Evaluate a model on a labeled data set: AP and AR, PCKh or PCK.",
    "compare": "Compare two models on a labeled data set, with the interval of the difference.",
    "data": "Split and pack data sets.",
    "train": "Train a network from a recipe.",
    "recipe": "List, show and check training recipes.",
    "average": "Average the weights of several runs of one network.",
    "export": "Export trained weights to one ONNX file, with a parity check.",
    "adopt": "Wrap another project's ONNX model into a file of featherpose.",
    "benchmark": "Measure training throughput and latency on this machine.",
}
"""Command -> its one line in --help. The function and the file have the name of the command."""


class CommandGroup(click.Group):
    """A click group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f"There is no command {cmd_name!r}.{did_you_mean(cmd_name, COMMANDS)}")
        return getattr(import_module(f"featherpose.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("featherpose"), prog_name="featherpose")
def featherpose() -> None:
    """Lightweight human pose estimation: train, evaluate, export and run pose models.

    \b
    Poses of the people in an image:   featherpose predict image.jpg
    Options of a command:              featherpose COMMAND --help
    """


def main() -> None:
    """Run the command line. A FeatherposeError is printed as one line on stderr and gives exit code 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of an image need not be valid text
    try:
        featherpose()
    except FeatherposeError as error:
        click.echo(f"featherpose: {error}", err=True)
        sys.exit(2)
