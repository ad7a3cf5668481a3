"""Refuse phrases and size notations that the docs and `--help` no longer use; `make lint` runs it."""

import re
import sys
from pathlib import Path

import click

from featherpose.cli import featherpose

ROOT = Path(__file__).resolve().parents[1]
PHRASES = (
    r"taught by|people seen|has seen (everyone|\S+ people)|stops on one way|opinions|judging|judged?\b",
    r"the door|the stairs|the house|the rooms?\b|the twin|\bverbs?\b|of (one's|your) own|mirrored look|second look",
    r"stops? behind|goes on (with|from)|drawn anew|made anew|learnt|\bjoints?\b(?! groups|, joints_vis|\.mat|\.json)",
    r"\bpictures?\b|\bphotos?\b|validation part|hold[_ -]out",
    r"\blabelled\b|\bcolour|\bcentre\b|\bgrey\b|normalis|initialis|neighbour",
    r"\b(96x128|128x160|128x192|192x256|288x384)\b",  # sizes are height x width
)


def helps(command: click.Command, name: str) -> list[tuple[str, str]]:
    """A command and its name -> (name, text of --help) of it and of its subcommands."""
    context = click.Context(command, info_name=name)
    found = [(f"{name} --help", command.get_help(context))]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            subcommand = command.get_command(context, inner)
            if subcommand:
                found += helps(subcommand, f"{name} {inner}")
    return found


def main() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in documents]
    texts += helps(featherpose, "featherpose")
    pattern = re.compile("|".join(PHRASES), re.IGNORECASE)
    found: list[str] = []
    for name, text in texts:
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {match[0]!r} in: {line.strip()[:100]}" for match in pattern.finditer(line)]
    if found:
        sys.exit("\n".join([*found, f"{len(found)} phrases; see the list in tools/check_phrases.py."]))


if __name__ == "__main__":
    main()
