"""The diagnosis of an evaluation as tables on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featherpose.cli.tables import percent, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from featherpose.evaluation.anatomy import Breakdown, Confusion
    from featherpose.evaluation.calibration import Calibration
    from featherpose.evaluation.diagnosis import Diagnosis


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the overall accuracy, a line per keypoint, the kinds of error, and what scores mean."""
    confusion = diagnosis.confusion
    click.echo(
        f"\nOverall accuracy: {percent(confusion.overall_accuracy)} % of {confusion.counts.sum()} labeled keypoints are"
        f" predicted on their place (within {confusion.radius}).\n"
        f"Persons without a pose: {diagnosis.num_missed} of {diagnosis.num_persons}\n"
    )
    print_table(confusion_table(confusion))
    click.echo()
    if diagnosis.breakdown is not None:
        print_table(breakdown_table(diagnosis.breakdown))
        click.echo()
    if diagnosis.calibration is not None and diagnosis.calibration.number:
        print_table(calibration_table(diagnosis.calibration))
        click.echo(
            f"Expected calibration error {percent(diagnosis.calibration.expected_error)} %;"
            f" {diagnosis.calibration.sentence()}.\n"
        )


def write_reliability(calibration: Calibration, file: Path) -> None:
    """Write the reliability curve as an SVG chart."""
    from featherpose import files
    from featherpose.charts import reliability

    files.replace(file, reliability([(b.score, b.right) for b in calibration.bins]).encode())


def confusion_table(confusion: Confusion) -> Table:
    """On what the predictions of each keypoint fall, in percent of its labels, and what it is taken for most."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("percent of labels")
    for column in ("labels", "right", "same person", "other person", "nothing"):
        table.add_column(column, justify="right")
    table.add_column("most often")
    num_keypoints = len(confusion.keypoint_names)
    for number, name in enumerate(confusion.keypoint_names):
        row = confusion.counts[number]
        total = int(row.sum())
        if not total:
            continue
        wrong = row[:num_keypoints].copy()
        wrong[number] = 0
        falls = (row[number], wrong.sum(), *row[num_keypoints:])
        most = f"{confusion.keypoint_names[wrong.argmax()]} {percent(wrong.max() / total)}" if wrong.any() else ""
        table.add_row(name, str(total), *(percent(count / total) for count in falls), most)
    return table


def breakdown_table(breakdown: Breakdown) -> Table:
    """Kinds of error in percent of the keypoints of persons with a pose, and the AP that fixing each gains."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for kind in breakdown.counts:
        table.add_column(kind, justify="right")
    total = max(sum(breakdown.counts.values()), 1)
    table.add_row("% of keypoints", *(percent(count / total) for count in breakdown.counts.values()))
    gained = (breakdown.ap_gained.get(kind) for kind in breakdown.counts)
    table.add_row("AP gained if corrected", *("" if value is None else f"{100 * value:+.1f}" for value in gained))
    return table


def calibration_table(calibration: Calibration) -> Table:
    """The reliability curve: how many keypoints have a score in a range, and how many of them are right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("score")
    for b in calibration.bins:
        table.add_column(f"{b.low:.1f}-{b.high:.1f}", justify="right")
    table.add_row("keypoints", *(str(b.number) for b in calibration.bins))
    table.add_row("% right", *(percent(b.right) for b in calibration.bins))
    return table
