"""Fine-tuning against training from scratch on 200 samples: `python benchmarks/fine_tune.py POSE_TRAIN`.

The training set is 200 MPII samples with MPII's 16 keypoints, the validation set is that of MPII. The shipped weights
were trained on the 200 samples, with COCO keypoints, but not on the validation set. Each run is the documented command,
`featherpose train --data my.json`, once with `--pretrained default` and once without, on one core each. Prints a table
and writes benchmarks/results/fine_tune.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from featherpose import api, files
from featherpose.data.sample import Sample, is_validation
from featherpose.data.shards import read_bytes, read_index
from featherpose.training.benchmark import machine

SAMPLES = 200
RECIPE = "custom-feather_pose"
RESULTS = Path(__file__).parent / "results" / "fine_tune.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of shards with MPII samples")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        coco_file = write_coco_file(arguments.data, Path(folder))
        for seed in range(arguments.seeds):
            rows += train_both(coco_file, seed)
    for row in rows:
        print(
            f"{row['pretrained']:8} seed {row['seed']}: PCK {row['pck']:.1f} after epoch {row['epoch'] + 1},"
            f" {row['hours']} h"
        )
    files.replace(RESULTS, json.dumps({"machine": machine(), "runs": rows}, indent=1).encode())


def train_both(coco_file: Path, seed: int) -> list[dict[str, Any]]:
    """COCO file and seed -> best scores of a run from the shipped weights and of one from scratch, run in parallel."""
    starts: dict[str, list[str]] = {"default": ["--pretrained", "default"], "scratch": []}
    runs = {start: coco_file.parent / f"{start}-{seed}" for start in starts}
    command = [sys.executable, "-m", "featherpose", "train", "--data", str(coco_file), "--set", f"seed={seed}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Both at once, one core each, so that the machine is equally busy for both.
    processes = [
        subprocess.Popen([*command, *words, "--out", str(runs[start])], env=environment)
        for start, words in starts.items()
    ]
    if any(run.wait() for run in processes):
        sys.exit("A run failed.")
    cards = {start: json.loads((run / "card.json").read_text()) for start, run in runs.items()}
    return [
        {"pretrained": start, "seed": seed, **card["best"], "hours": card["hours"]} for start, card in cards.items()
    ]


def write_coco_file(shards: Path, folder: Path) -> Path:
    """Folder of shards -> a COCO file with the 200 samples and MPII's validation set; its images in the same folder."""
    samples = [sample for sample in read_index(shards) if sample.source == "mpii"]
    validation_samples = [sample for sample in samples if is_validation(sample.image)]
    training_samples = [sample for sample in samples if not is_validation(sample.image)][:SAMPLES]
    records = [
        _record(number, sample, folder)
        for number, sample in enumerate([*training_samples, *validation_samples], start=1)
    ]
    skeleton = samples[0].skeleton
    category = {
        "id": 1,
        "name": "person",
        "keypoints": skeleton.keypoint_names,
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],  # COCO counts from 1
    }
    images, annotations = zip(*records, strict=True)
    truth = {"images": images, "annotations": annotations, "categories": [category]}
    coco_file = folder / "my.json"
    coco_file.write_text(json.dumps(truth))
    return coco_file


def _record(number: int, sample: Sample, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A sample -> COCO image and annotation; the image gets a name that the recipe's split assigns to the same set."""
    val_fraction = api.open_recipe(RECIPE).data.val_fraction
    in_validation_set = is_validation(sample.image)
    # The split is a hash of the name: some number gives a name on the right side.
    names = (f"{sample.key}-{n}.webp" for n in count())
    name = next(name for name in names if is_validation(name, val_fraction) == in_validation_set)
    (folder / name).write_bytes(read_bytes(sample.location))
    height, width = sample.size.shape
    keypoints: list[float] = []
    for (x, y), v in zip(sample.keypoints, sample.visibility, strict=True):
        keypoints += [float(x), float(y), int(v)]
    image = {"id": number, "file_name": name, "width": width, "height": height}
    annotation = {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": [float(value) for value in sample.box_xywh],
        "keypoints": keypoints,
    }
    return image, annotation


if __name__ == "__main__":
    main()
