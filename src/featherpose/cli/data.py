"""featherpose data: split and pack data sets."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from featherpose.cli import options
from featherpose.cli.progress import progress_bar


@click.group()
def data() -> None:
    """Split and pack data sets: COCO, MPII, LSP, CrowdPose, YOLO, or a file in COCO's format (docs/data.md).

    \b
    featherpose data split coco/train2017 --out lists
    featherpose data pack coco/train2017 --out shards --ids lists/train.txt
    """


@data.command()
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for train.txt and val.txt.")
@options.FORMAT
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="Fraction 1/n of the images for validation, such as 0.2 or 0.05.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another seed gives another split; 0 is the split of training with the same data.val_fraction.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers of images as JSON on stdout.")
def split(data: str, out: Path, data_format: str, val_fraction: float, seed: int, as_json: bool) -> None:
    """Split the images of DATA into training and validation, the same on every machine, and write two lists of names.

    DATA is a folder, an annotation file, FOLDER/SPLIT, or a folder of shards. An image is in the same part wherever and
    whenever the split is made, and however many images there are: the part depends on its name and the seed alone.

    \b
    featherpose data split my.json --out lists
    featherpose evaluate --model best.onnx --data my.json --ids lists/val.txt
    """
    from featherpose import api

    train, val = api.split_data(data, out, format=data_format, val_fraction=val_fraction, seed=seed)
    if as_json:
        import json

        click.echo(json.dumps({"train": len(train), "val": len(val), "folder": str(out)}))
    else:
        click.echo(
            f"{len(train)} images for training, {len(val)} for validation: {out / 'train.txt'}, {out / 'val.txt'}"
        )


@data.command()
@click.argument("data")
@click.option("--out", required=True, metavar="FOLDER|ADDRESS", help="Folder, or an address such as s3://bucket/coco.")
@options.FORMAT
@options.IDS
@options.CATEGORY
@options.STRICT
@click.option(
    "--image-format",
    type=click.Choice(["webp", "jpeg", "avif"]),
    default="webp",
    show_default=True,
    help="Format of the crops; avif is a quarter smaller than webp and slower.",
)
@click.option(
    "--quality",
    type=click.IntRange(0, 100),
    help="Quality of the crops.  [default: 90, avif 80: pixels differ by less than 2 gray levels on average]",
)
@click.option("--lossless", is_flag=True, help="Store the pixels as they are, in WebP, persons of any height.")
@click.option(
    "--max-height",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Largest height of a padded box; larger persons are scaled down; 0: no limit.  [default: 346, for training at "
    "256x192]",
)
@click.option("--shard-size", type=click.IntRange(min=1), default=500, show_default=True, help="Samples in a shard.")
@click.option("--threads", type=click.IntRange(min=1), help="Crops made at the same time.  [default: the core count]")
@click.option("--overwrite", is_flag=True, help="Write all shards anew, whatever is in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def pack(
    data: str,
    out: str,
    data_format: str,
    ids: str | None,
    category: str | None,
    strict: bool,
    image_format: str,
    quality: int | None,
    lossless: bool,
    max_height: int | None,
    shard_size: int,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack DATA into shards of crops, one for each labeled person, for training on them.

    DATA is a folder, an annotation file, or FOLDER/SPLIT. A crop is the part of the image that augmentation can show,
    in the order of the annotations; training on the shards is the same as on the images, except for what --quality
    and --max-height change. A run that was interrupted continues where it stopped. Persons whose image cannot be used
    are listed (exit code 1).

    \b
    featherpose data pack coco/train2017 --out coco-shards
    featherpose data pack mpii/train --out s3://bucket/mpii --image-format avif
    featherpose train lite_hrnet_18 --data coco-shards
    """
    from featherpose import api

    with progress_bar() as progress:
        packed, notes = api.pack_data(
            data,
            out,
            format=data_format,
            ids=ids,
            category=category,
            strict=strict,
            image_format=image_format,
            quality=quality,
            lossless=lossless,
            max_height=max_height,
            shard_size=shard_size,
            threads=threads,
            overwrite=overwrite,
            progress=progress,
        )
    for note in notes:
        click.echo(note, err=True)
    if as_json:
        from dataclasses import asdict
        from json import dumps

        click.echo(dumps({**asdict(packed), "out": out}))
    else:
        skipped = f", {packed.num_skipped} of them were there" if packed.num_skipped else ""
        written = packed.num_samples - len(packed.broken)
        click.echo(f"{written} of {packed.num_samples} samples in {packed.num_shards} shards{skipped}: {out}")
    if packed.broken:
        for line in packed.broken:
            click.echo(f"  {line}", err=True)
        sys.exit(1)
