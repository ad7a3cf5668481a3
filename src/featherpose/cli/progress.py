"""Progress bar of the commands that process images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress_bar(*, quiet: bool = False) -> Generator[Callable[[int, int], None]]:
    """Show images done, images/s and the time left on stderr if that is a terminal; yields the function (done, total)
    that updates them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("images", total=None, speed="")

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].speed  # of the last 30 seconds
            bar.update(task, speed="" if speed is None else f"{speed:.1f} images/s")

        yield update
