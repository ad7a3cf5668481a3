"""Tables on stdout, and the numbers in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100
"""Columns that the widest table needs."""


def print_table(table: Table, width: int = WIDTH) -> None:
    """Print a table: a terminal's width limits it, a file or a pipe has `width` columns at least."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, width)
    console.print(table)


def percent(fraction: float | None) -> str:
    """Fraction 0 to 1 -> percent with one decimal; a dash where no labels count for the score."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"
