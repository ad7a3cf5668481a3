"""Write which images a data folder has, one list per data set, source and split: names without suffix, one a line.

    python tools/list_images.py ~/.cache/featherpose/data docs/data

Lists are written of coco-test, mpii-test and lsp-test, and of the shards in pose-train, detector-train and
detector-extra: FOLDER-PREFIX-SOURCE-SPLIT.txt, where the prefix is that of the shards' file names. They are for `--ids`
of `featherpose evaluate` and `featherpose data pack` (docs/data.md).
"""

import argparse
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from featherpose import files
from featherpose.data.datasets import find_dataset

TEST_SETS = ("coco-test", "mpii-test", "lsp-test")
SHARDS = ("pose-train", "detector-train", "detector-extra")


def images_of_shards(folder: Path) -> dict[str, set[str]]:
    """Folder of shards -> names of its images by shard prefix, source and split."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for info in archive:
                content = archive.extractfile(info) if info.name.endswith(".json") else None
                if content is not None:
                    record = json.load(content)
                    prefix = shard.stem.rpartition("-")[0]
                    parts = dict.fromkeys((folder.name, prefix, record["source"], record.get("split")))
                    found["-".join(part for part in parts if part)].add(record["image"])
    return found


def write(path: Path, names: Iterable[str]) -> None:
    """Path and names of images -> the list, sorted, without folders and suffixes."""
    stems = sorted({PurePosixPath(name).stem for name in names})
    files.replace(path, "".join(f"{stem}\n" for stem in stems).encode())
    print(f"{path}: {len(stems)} images")


def main(data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in TEST_SETS:
        if (data / name).is_dir():
            dataset = find_dataset(data / name).read()
            write(out / f"{name}.txt", [image.name for image in dataset.labels.images])
    for folder in SHARDS:
        for name, images in sorted(images_of_shards(data / folder).items()):
            write(out / f"{name}.txt", images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that contains the data sets")
    parser.add_argument("out", type=Path, help="folder for the lists")
    main(**vars(parser.parse_args()))
