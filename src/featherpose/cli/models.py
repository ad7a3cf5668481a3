"""featherpose models: which networks there are, what they cost, what was published of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from featherpose.zoo import Entry, Published

USUAL = {"AP": ("COCO val2017", "192x256"), "PCKh@0.5": ("MPII validation", "256x256")}
"""Metric -> data and input of the scores in the table; others get a star."""

WIDTH = 100
"""Columns that the whole table needs."""


@click.command()
@click.argument("word", required=False, default="")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV on stdout, counts in full.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def models(word: str, as_csv: bool, as_json: bool) -> None:
    """List the networks, or those with WORD in their name or their paper.

    Parameters, multiply-accumulates, input, published scores, latency where it was measured, and whether trained
    weights come along. With WORD each one's paper, scores and notes follow.

    \b
    featherpose models
    featherpose models lite_hrnet
    featherpose models --csv > networks.csv
    """
    from featherpose import api

    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one.")
    entries = api.models(word)
    if as_json:
        _print_json(entries)
    elif as_csv:
        _print_csv(entries)
    else:
        _show(entries)
        if word:
            _explain(entries)


def _print_json(entries: list[Entry]) -> None:
    import json
    from dataclasses import asdict

    click.echo(json.dumps([asdict(entry) for entry in entries], ensure_ascii=False))


def _print_csv(entries: list[Entry]) -> None:
    import csv
    import sys

    rows = [_flat(entry) for entry in entries]
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _flat(entry: Entry) -> dict[str, Any]:
    """An entry -> one row of the CSV; of several scores the first, all of them in words."""
    ap, pckh = (_first(entry, metric) for metric in USUAL)
    return {
        **{"name": entry.name, "here": entry.here, "weights": entry.weights, "parameters": entry.parameters},
        **{"macs": entry.macs, "macs_run": entry.macs_run, "input": entry.input},
        **{"latency_ms": entry.latency_ms, "latency_on": entry.latency_on},
        **{"ap": ap.percent if ap else None, "pckh": pckh.percent if pckh else None},
        **{"published": " | ".join(map(str, entry.published)), "paper": entry.paper.title},
        **{"authors": entry.paper.authors, "year": entry.paper.year, "link": entry.paper.link, "note": entry.note},
    }


def _show(entries: list[Entry]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    table.add_column("weights")
    for column in ("params", "MACs", "run", "input", "AP", "PCKh", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    for entry in entries:
        table.add_row(*_cells(entry))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has room
        console.width = max(console.width, WIDTH)
    console.print(table)
    click.echo(
        "In millions: parameters, and multiply-accumulates for one picture as published; run: as exported\n"
        "here, where that is less. AP: COCO val2017, 192x256, detected boxes, flip test; PCKh@0.5: MPII\n"
        "validation, 256x256; all published by others, none is ours; *: another protocol. How each was taken,\n"
        "by whom, and notes: featherpose models NAME."
    )
    if measured_on := sorted({entry.latency_on for entry in entries if entry.latency_on}):
        click.echo(f"ms: one picture on one thread, {', '.join(measured_on)}.")


def _cells(entry: Entry) -> list[str]:
    state = ("yes" if entry.weights else "") if entry.here else "not yet"
    run = "" if entry.macs_run == entry.macs else _millions(entry.macs_run)
    scores = [_score(_first(entry, metric)) for metric in USUAL]
    paper = f"{entry.paper.authors.removesuffix(' et al.')} {entry.paper.year}" if entry.paper.authors else "see note"
    return [
        *(entry.name, state, "" if entry.parameters is None else f"{entry.parameters / 1e6:.2f}"),
        *(_millions(entry.macs), run, entry.input or "", *scores, _short(entry.latency_ms), paper),
    ]


def _millions(count: int | None) -> str:
    return "" if count is None else _short(count / 1e6)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _first(entry: Entry, metric: str) -> Published | None:
    """The score to show: the first in the order of the table."""
    return next((score for score in entry.published if score.metric == metric), None)


def _score(score: Published | None) -> str:
    """Percent, with a star where it cannot stand beside the others."""
    if score is None:
        return ""
    return f"{score.percent:.1f}" + ("" if (score.data, score.input) == USUAL[score.metric] else "*")


def _explain(entries: list[Entry]) -> None:
    """Paper, scores and note of each, below the table."""
    for entry in entries:
        paper = entry.paper
        who = f"{paper.authors} {paper.year}, " if paper.authors else ""
        click.echo(f"\n{entry.name}: {who}{paper.title}" + (f", {paper.link}" if paper.link else ""))
        for score in entry.published:
            click.echo(f"  {score}")
        if entry.note:
            click.echo(click.wrap_text(entry.note, 100, "  ", "  "))
