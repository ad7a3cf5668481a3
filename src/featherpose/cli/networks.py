"""featherpose networks: the network architectures, their cost, latency and published scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from featherpose.cli.tables import print_table

if TYPE_CHECKING:
    from featherpose.zoo import Entry, Published

USUAL = {"AP": ("COCO val2017", "256x192"), "PCKh@0.5": ("MPII validation", "256x256")}
"""Metric -> data and input size of the scores in the table; others are marked with a star."""


@click.command()
@click.argument("word", required=False, default="")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV on stdout, counts in full.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def networks(word: str, as_csv: bool, as_json: bool) -> None:
    """List the network architectures, or those with WORD in their name or paper.

    Shows parameters, multiply-accumulates, input size, latency, scores published by others, and whether trained
    weights are shipped. With WORD, each network's paper, published scores and notes follow.

    \b
    featherpose networks
    featherpose networks lite_hrnet
    featherpose networks --csv > networks.csv
    """
    from featherpose import api

    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one.")
    entries = api.list_networks(word)
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
    """An entry -> one row of the CSV: the first score of each metric, and all scores as text."""
    ap, pckh = (_first(entry, metric) for metric in USUAL)
    return {
        **{"name": entry.name, "task": entry.task, "weights": entry.weights, "parameters": entry.parameters},
        **{"macs": entry.macs, "macs_run": entry.macs_run, "input": entry.input},
        **{"latency_ms": entry.latency_ms, "latency_on": entry.latency_on},
        **{"ap": ap.percent if ap else None, "pckh": pckh.percent if pckh else None},
        **{"published": " | ".join(map(str, entry.published)), "paper": entry.paper.title},
        **{"authors": entry.paper.authors, "year": entry.paper.year, "link": entry.paper.link, "note": entry.note},
    }


def _show(entries: list[Entry]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for column in ("params", "MACs", "run", "input", "ms", "publ.\nAP", "publ.\nPCKh"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    for entry in entries:
        table.add_row(*_cells(entry))
    print_table(table)
    click.echo(
        "In millions: parameters, and multiply-accumulates per image as published; run: as exported by\n"
        "featherpose, where fewer. Published by others, not ours: AP on COCO val2017 at 256x192, detected\n"
        "boxes, flip test; PCKh@0.5 on MPII validation at 256x256; *: another protocol. Protocols, sources\n"
        "and notes: featherpose networks NAME. model: a trained one is shipped, see featherpose models."
    )
    if detectors := [entry.name for entry in entries if entry.task == "detector"]:
        click.echo(f"Finds people, not poses: {', '.join(detectors)}.")
    if measured_on := sorted({entry.latency_on for entry in entries if entry.latency_on}):
        click.echo(f"ms: one image on one thread, {', '.join(measured_on)}.")


def _cells(entry: Entry) -> list[str]:
    shipped = "yes" if entry.weights else ""
    run = "" if entry.macs_run == entry.macs else _millions(entry.macs_run)
    scores = [_score(_first(entry, metric)) for metric in USUAL]
    paper = f"{entry.paper.authors.removesuffix(' et al.')} {entry.paper.year}" if entry.paper.authors else "see note"
    return [
        *(entry.name, shipped, f"{entry.parameters / 1e6:.2f}"),
        *(_millions(entry.macs), run, entry.input, _short(entry.latency_ms), *scores, paper),
    ]


def _millions(count: int | None) -> str:
    return "" if count is None else _short(count / 1e6)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _first(entry: Entry, metric: str) -> Published | None:
    """The score to show: the first one listed."""
    return next((score for score in entry.published if score.metric == metric), None)


def _score(score: Published | None) -> str:
    """Percent, with a star where the protocol differs from that of the column."""
    if score is None:
        return ""
    return f"{score.percent:.1f}" + ("" if (score.data, score.input) == USUAL[score.metric] else "*")


def _explain(entries: list[Entry]) -> None:
    """Paper, published scores and note of each network, below the table."""
    for entry in entries:
        paper = entry.paper
        who = f"{paper.authors} {paper.year}, " if paper.authors else ""
        click.echo(f"\n{entry.name}: {who}{paper.title}" + (f", {paper.link}" if paper.link else ""))
        for score in entry.published:
            click.echo(f"  {score}")
        if entry.note:
            click.echo(click.wrap_text(entry.note, 100, "  ", "  "))
