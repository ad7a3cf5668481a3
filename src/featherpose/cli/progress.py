"""Progress bar of the commands that process images."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress_bar(*, quiet: bool = False) -> Generator[Callable[[int, int], None]]:
    """Show images done, images/s and the time left on stderr if that is a terminal; yields the function (done, total)
    that updates them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images{task.fields[speed]}"))
    hidden = quiet or not sys.stderr.isatty()
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("images", total=None, speed="")

        def update(done: int, total: int) -> None:
            seconds = time.monotonic() - start
            bar.update(task, completed=done, total=total, speed=_speed(done, total, seconds))

        yield update


def _speed(done: int, total: int, seconds: float) -> str:
    """Images done so far, all images and the time that it took -> images/s and the time left; "" at the start.

    The mean over the run: images come in groups, so that a short time says little.
    """
    if not done or not seconds:
        return ""
    speed = done / seconds
    minutes, left = divmod(round((total - done) / speed), 60)
    hours, minutes = divmod(minutes, 60)
    return f", {speed:.1f} images/s, {hours}:{minutes:02}:{left:02} left"
