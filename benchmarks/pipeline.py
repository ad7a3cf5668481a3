"""Latency of the whole pipeline, image file to poses, as multiples of Lite-HRNet-18's plain export in the same run.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --detector runs/detector/best.onnx --out benchmarks/results/pipeline.json

The image is 640x480 and shows three people. Measured on --threads threads (2): the parts, one after the other in each
round, and the command `featherpose predict` from the start of its process to its end, with the poses written and no
image drawn. The yardstick is one run of lite_hrnet_18 at 256x192, exported plainly, on as many threads. Numbers are
medians over the rounds; a ratio is that of the times of one round. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from latency import exported_baseline
from numpy.typing import NDArray

from featherpose import examples, files, images, weights
from featherpose.exporting.crops import synthetic
from featherpose.letterbox import Letterbox
from featherpose.runtime.detector import Detector
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.pipeline import TopDown
from featherpose.runtime.session import Session
from featherpose.size import Size
from featherpose.training.benchmark import machine

SIZE = Size(height=480, width=640)
PEOPLE = 3
RUNS = 10
"""Runs of a part in a round; the fastest half counts, because another process can only slow a run down."""


def example_image() -> NDArray[np.uint8]:
    """Three people: the example image, scaled to the width of `SIZE`, between gray bars."""
    pixels = images.read(examples.find("people.jpg"))
    height = round(pixels.shape[0] * SIZE.width / pixels.shape[1])
    scaled = cv2.resize(pixels, (SIZE.width, height), interpolation=cv2.INTER_AREA)
    canvas = np.full((*SIZE.shape, 3), 114, np.uint8)
    top = (SIZE.height - height) // 2
    canvas[top : top + height] = scaled
    return canvas


def milliseconds(run: Callable[[], Any], runs: int = RUNS) -> float:
    """Latency of a part: the median of the faster half of its runs, after one run of warm-up."""
    run()
    times: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(sorted(times)[: max(1, runs // 2)]))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Options and a folder for files -> the facts."""
    file = folder / "three-people.png"
    images.write(file, example_image())
    pixels = images.read(file)

    yardstick = Session.open(exported_baseline(args.models or folder), "cpu", args.threads)
    crop = synthetic(yardstick.manifest.input_size)["noise"][None]
    detector = Detector.open(weights.find_detector(args.detector), "cpu", args.threads, max_people=PEOPLE)
    estimator = Estimator.open(weights.find(args.model), "cpu", args.threads)
    finder = TopDown(detector, estimator)
    boxes, _ = detector(pixels)
    if len(boxes) < PEOPLE:
        raise SystemExit(f"The detector finds {len(boxes)} people in the image, wanted {PEOPLE}.")
    network_input = images.letterbox(pixels, Letterbox.of(SIZE, detector.long_side))[None]

    parts: dict[str, Callable[[], Any]] = {
        "yardstick": lambda: yardstick.run(crop),
        "reading the file": lambda: images.read(file),
        "detector": lambda: detector.session.run(network_input),
        "detector and its input": lambda: detector(pixels),
        "poses": lambda: estimator(pixels, boxes),
        "file to poses": lambda: finder(images.read(file)),
    }
    times: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(args.rounds):
        for name, run in parts.items():
            times[name].append(milliseconds(run))
        times["process start to poses"].append(milliseconds(lambda: predict_in_process(args, file, folder), runs=2))
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)

    # Ratios of one round: a slowdown of the machine affects both.
    ratios = {name: np.divide(values, times["yardstick"]) for name, values in times.items()}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "threads": args.threads,
        "rounds": args.rounds,
        "detector": Path(args.detector).name,
        "model": args.model,
        "parts": [
            {
                "part": name,
                "ms": round(float(np.median(values)), 2),
                "ratio": round(float(np.median(ratios[name])), 2),
                "spread": [round(float(end), 2) for end in np.percentile(ratios[name], (10, 90))],
            }
            for name, values in times.items()
        ],
    }


def predict_in_process(args: argparse.Namespace, file: Path, folder: Path) -> None:
    """`featherpose predict` as a user types it, without drawn images."""
    words = [sys.executable, "-m", "featherpose", "predict", str(file), "--no-draw", "--overwrite", "--quiet"]
    words += [f"--detector={args.detector}", f"--model={args.model}", f"--out={folder / 'out'}", "--device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    subprocess.run(words, check=True, env=environment)


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="default", help="shipped name or .onnx file (default: %(default)s)")
    parser.add_argument("--model", default="default", help="shipped name or .onnx file (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each session (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: %(default)s)")
    parser.add_argument("--models", type=Path, help="folder of the exported yardstick, reused if it is there")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        facts = measure(args, Path(folder))
    print(f"{'part':<24}{'ms':>9}{'ratio':>8}  10 % to 90 %")
    for line in facts["parts"]:
        low, high = line["spread"]
        print(f"{line['part']:<24}{line['ms']:>9.2f}{line['ratio']:>8.2f}  {low:.2f} to {high:.2f}")
    if args.out:
        files.replace(args.out, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
