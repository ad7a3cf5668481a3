"""featherpose predict: images or videos in, the same with drawn skeletons and JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featherpose.cli import options
from featherpose.cli.progress import progress_bar
from featherpose.formats.outputs import FORMATS

if TYPE_CHECKING:
    from featherpose.runtime.predict import Report

_ROWS = 20
_STDOUT = ("-", "/dev/stdout")
_FORMATS_HELP = " ".join(f"{name}: {found.sentence}" for name, found in FORMATS.items())


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON file with the person boxes (see above), in place of the detector.",
)
@options.CATEGORY
@options.STRICT
@click.option("--whole-image", is_flag=True, help="Each image shows one person who fills it; no detector needed.")
@options.DETECTOR
@options.CONF
@options.MAX_PEOPLE
@options.MODEL
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder for the results."
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="File for the keypoints; - also prints them on stdout.  [default: OUT/poses.json, or poses-I-of-N.json]",
)
@click.option(
    "--save",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    default=["json"],
    show_default=True,
    help=f"Format of the keypoints in --out; can be repeated. {_FORMATS_HELP}",
)
@click.option("--no-draw", is_flag=True, help="Write only the keypoints, no images.")
@click.option("--draw-boxes", is_flag=True, help="Draw the boxes of the people, too.")
@click.option(
    "--draw-ids", is_flag=True, help="Label each person with the person score, and the id where people were tracked."
)
@click.option(
    "--score-threshold",
    type=float,
    default=0.3,
    show_default=True,
    help="Draw keypoints with a lower score faintly. At 0.3, 86 % of the visible keypoints drawn plainly by the default"
    " model are right (OKS 0.5, its validation set); each model's card has its own figure.",
)
@click.option("--shard", metavar="I/N", help="Process only the I-th of N parts of the images, such as 1/4.")
@click.option(
    "--overwrite", "--no-resume", "overwrite", is_flag=True, help="Also process the images that are done already."
)
@options.FLIP_TEST
@options.REFINE
@options.device("Inference")
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=100,
    show_default=True,
    help="Reject larger images before decoding.",
)
@click.option(
    "--smooth",
    type=click.Choice(["off", "live", "file"]),
    help="Smoothing of videos: live has no delay; file has no lag and fills gaps.  [default: live for a camera or a "
    "stream, else file]",
)
@click.option(
    "--every",
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="In videos, run the detector in every N-th frame; auto: chosen from the motion.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only failures and what --json asks for.")
@click.option("-v", "--verbose", is_flag=True, help="Also print models, device, threads and the time of each stage.")
def predict(
    sources: tuple[str, ...],
    boxes: Path | None,
    category: str | None,
    strict: bool,
    whole_image: bool,
    detector: str,
    conf: float | None,
    max_people: int | None,
    model: str,
    out: Path,
    json_file: str | None,
    save: tuple[str, ...],
    no_draw: bool,
    draw_boxes: bool,
    draw_ids: bool,
    score_threshold: float,
    shard: str | None,
    overwrite: bool,
    flip_test: bool,
    refine: bool,
    device: str,
    max_megapixels: float,
    smooth: str | None,
    every: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Estimate poses in images and videos. SOURCE is an image, a video, a folder that is searched recursively for both,
    a quoted pattern such as 'images/**/*.jpg', or - for a list of images on stdin; or an HTTP or RTSP address of a
    video, or the index of a camera, such as 0.

    \b
    featherpose predict holiday/ --out holiday-poses
    featherpose predict portrait.jpg --whole-image
    find . -name '*.jpg' | featherpose predict - --boxes people.json
    featherpose predict clip.mp4 --draw-ids --save csv

    Images with drawn skeletons, and poses.json with all keypoints by name, are written to --out; with --save also other
    formats. Images that cannot be read are listed at the end, and the others are processed (exit code 1; 2 if all
    failed).

    A video gives OUT/NAME.mp4 with drawn skeletons, and OUT/NAME.jsonl with the keypoints of each frame; people are
    tracked, and keypoints smoothed. Ctrl-C ends it with complete files. Several videos are processed one after the
    other.

    The same command again, also with another --save, skips the images that are done and have not changed: poses.json
    says which. --shard 1/4 to --shard 4/4 divide the images among four processes or machines; files for all images are
    then named poses-1-of-4.csv.

    The person detector finds the people. In its place, --boxes gives their boxes, in pixels of the upright image, as

    \b
    {"image.jpg": [[left, top, right, bottom], ...], "empty.jpg": []}

    or as COCO annotations ({"images": ..., "annotations": ...}), or as COCO detections ([{"image_id": 785, "bbox":
    [left, top, width, height], "score": 0.9}, ...], where image_id is the file name of the image or the number in it).
    """
    from featherpose import api

    with progress_bar(quiet=quiet) as progress:
        report = api.predict(
            sources,
            boxes=boxes,
            category=category,
            strict=strict,
            whole_image=whole_image,
            detector=None if detector == "none" else detector,
            conf=conf,
            max_people=max_people,
            model=model,
            out=out,
            json_file=None if json_file == "-" else json_file,
            save=save,
            shard=shard,
            overwrite=overwrite,
            device=device,
            flip_test=flip_test,
            refine=refine,
            draw_images=not no_draw,
            draw_boxes=draw_boxes,
            draw_ids=draw_ids,
            score_threshold=score_threshold,
            max_megapixels=max_megapixels,
            smooth=smooth,
            every=_every(every),
            progress=progress,
        )
    if verbose:
        _show_run(report)
    elif device == "auto" and not quiet:
        click.echo(f"Ran on {report.device} with {_count(report.threads, 'thread', 'threads')}.", err=True)
    if not quiet:
        _show_videos(report)
    if any(video.is_interrupted for video in report.videos):
        sys.exit(130)
    if report.videos and not report.poses and not report.failures:
        return
    all_failed = bool(report.failures) and not report.poses  # then nothing was written for images
    if json_file == "-" and not all_failed:
        click.echo(report.json_file.read_text(encoding="utf-8"), nl=False)
    elif not quiet and not all_failed and json_file not in _STDOUT:
        _show_table(report)
        _show_summary(report, None if no_draw else out)
        if report.saved:
            click.echo(f"saved in {out}: {'; '.join(report.saved)}")
    if report.failures:
        _show_failures(report)
    if not quiet:
        _show_counts(report)
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if report.failures:
        sys.exit(1 if report.poses or report.videos else 2)


def _show_run(report: Report) -> None:
    """Print on stderr what was run, and how long each stage took."""
    click.echo(f"model: {report.model}", err=True)
    if report.detector is not None:
        click.echo(f"detector: {report.detector}, boxes with a score of at least {report.conf:g}", err=True)
    click.echo(f"device: {report.device}, {_count(report.threads, 'thread', 'threads')}", err=True)
    total = sum(report.seconds.values())
    num_new = len(report.poses) - report.num_resumed
    if num_new:
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
        click.echo(f"time: {stages}; {num_new / total:.1f} images/s", err=True)
    for video in report.videos:
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in video.seconds.items())
        click.echo(f"time of {video.name}: {stages}; overlapping, {video.wall_seconds:.1f} s in all", err=True)


def _show_summary(report: Report, drawn_in: Path | None) -> None:
    num_persons = sum(len(found) for found in report.poses.values())
    line = f"{_count(num_persons, 'person', 'people')} in {_count(len(report.poses), 'image', 'images')}"
    if report.num_resumed:
        line += f" ({report.num_resumed} done before)"
    line += f": keypoints in {report.json_file}"
    if drawn_in is not None:
        line += f", images in {drawn_in}"
    click.echo(line)


def _show_counts(report: Report) -> None:
    """Print on stderr how many files and boxes were used, and why not the others."""
    for counts in report.counts:
        for sentence in counts.sentences():
            click.echo(sentence, err=True)


def _show_failures(report: Report) -> None:
    what = "sources" if report.num_videos else "images"
    total = len(report.poses) + len(report.videos) + len(report.failures)
    click.echo(f"{len(report.failures)} of {total} {what} failed:", err=True)
    for line in report.failures:
        click.echo(f"  {line}", err=True)


def _show_videos(report: Report) -> None:
    for video in report.videos:
        line = f"{video.name}: {_count(video.num_people, 'person', 'people')} in "
        line += f"{_count(video.num_frames, 'frame', 'frames')}, {video.num_frames / video.wall_seconds:.1f} frames/s"
        if video.is_interrupted:
            line += ", interrupted"
        written = [str(path) for path in (video.drawn, *video.saved) if path is not None]
        click.echo(f"{line}: {', '.join(written)}")
        click.echo(f"  smoothing: {video.smooth}; people searched in {video.num_detections} frames", err=True)
        for note in video.notes:
            click.echo(f"  {note}", err=True)


def _every(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not auto or a number of frames of at least 1", param_hint="--every")
    return int(text)


def _show_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", box=None, pad_edge=False)
    for column in ("people", "scores"):
        table.add_column(column, justify="right")
    for name, found in list(report.poses.items())[:_ROWS]:
        best = " ".join(f"{score:.2f}" for score in sorted(found.person_scores.tolist(), reverse=True)[:5])
        table.add_row(name, str(len(found)), best + (" ..." if len(found) > 5 else ""))
    if len(report.poses) > _ROWS:
        table.add_row(f"... and {len(report.poses) - _ROWS} more", "", "")
    if report.poses:
        Console().print(table, markup=False)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
