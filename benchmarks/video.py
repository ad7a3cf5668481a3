"""Speed, start and memory of `featherpose predict` on a video, as multiples of Lite-HRNet-18's plain export.

    python benchmarks/video.py --out benchmarks/results/video.json
    python benchmarks/video.py --detector runs/detector/best.onnx
    python benchmarks/video.py --whole-image --frames 0      without a detector, and without the measurement of memory

The clips are generated (`walking`): 720p, 25 frames per second, one to three people. In each round the yardstick and
then, for each model and number of people, the whole of the command runs: decoding, detection, poses, tracking,
smoothing, drawing, encoding. The time of a frame is that of the run divided by the number of frames. The yardstick is
one run of lite_hrnet_18 at 256x192, exported plainly, on as many threads as there are here; it runs before and after.
Start is from the start of a process to the first frame with poses from `featherpose.stream`, without a delay by
smoothing. Memory is what is resident after 2,000 frames, and after --frames, of a clip that long. Numbers are medians
over the rounds; a ratio is that of the times of one round. Nothing else should run meanwhile.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from latency import exported_baseline
from pipeline import milliseconds
from walking import make_scene

from featherpose import files
from featherpose.exporting.crops import synthetic
from featherpose.runtime.models import Models, open_models
from featherpose.runtime.session import Session
from featherpose.runtime.video import VideoReport, predict_videos
from featherpose.training.benchmark import machine

RATE = 25.0
LIMITS = {"default": 2.0, "small": 1.3}
"""The largest ratio of a frame that is wanted for each model."""
START_LIMIT = 120
MEMORY_LIMIT = 20.0
"""MB."""
FIRST_FRAMES = 2000
"""Memory is compared with that after so many frames."""

START = """
import sys
import featherpose
options = {"whole_image": True} if sys.argv[2] == "whole image" else {"detector": sys.argv[2]}
next(featherpose.stream(sys.argv[1], model=sys.argv[3], device="cpu", smooth="live", **options))
"""


def write_clip(path: Path, num_people: int, num_frames: int | None = None) -> Path:
    """Write a clip of generated frames, in a loop where more are wanted than the scene has."""
    scene = make_scene(num_people, num_people, RATE)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, scene.size.xy)
    for frame in range(num_frames or scene.num_frames):
        writer.write(cv2.cvtColor(scene.draw(frame % scene.num_frames), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def open_for(args: argparse.Namespace, model: str) -> Models:
    """Options and a name -> the models."""
    detector = None if args.whole_image else args.detector
    return open_models(model, detector, "cpu", whole_image=args.whole_image)


def run_once(clip: Path, models: Models, folder: Path) -> VideoReport:
    """A clip and the models -> the report of a run as by the command."""
    reports, failures = predict_videos([clip], models, folder / "out")
    if failures:
        raise SystemExit(failures[0])
    return reports[0]


def measure_speed(args: argparse.Namespace, folder: Path, yardstick: Any) -> dict[str, Any]:
    """Options, a folder for files, and a call that runs the yardstick -> the facts on speed and start."""
    # Without a detector, the pose of one person is estimated in each frame, however many it shows.
    numbers = (1,) if args.whole_image else (1, 2, 3)
    clips = {number: write_clip(folder / f"people-{number}.mp4", number) for number in numbers}
    models = {name: open_for(args, name) for name in LIMITS}
    times: defaultdict[str, list[float]] = defaultdict(list)
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    stages: dict[str, VideoReport] = {}
    for number in range(args.rounds):
        for name, opened in models.items():
            for people, clip in clips.items():
                key = f"{name}, {people} {'person' if people == 1 else 'people'}"
                before = milliseconds(yardstick)
                report = run_once(clip, opened, folder)
                unit = (before + milliseconds(yardstick)) / 2
                stages[key] = report
                times["yardstick"].append(unit)
                times[key].append(1000 * report.wall_seconds / report.num_frames)
                ratios[key].append(times[key][-1] / unit)
        for name in models:
            key = f"start, {name}"
            unit = milliseconds(yardstick)
            times[key].append(start_milliseconds(args, clips[1], name))
            ratios[key].append(times[key][-1] / unit)
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    return {
        "yardstick_ms": round(float(np.median(times["yardstick"])), 2),
        "parts": [
            {
                "part": key,
                "ms": round(float(np.median(times[key])), 2),
                "ratio": round(float(np.median(found)), 2),
                "spread": [round(float(end), 2) for end in np.percentile(found, (10, 90))],
                "wanted": START_LIMIT if key.startswith("start") else LIMITS[key.partition(",")[0]],
                "ms_by_stage": stage_times(stages.get(key)),
            }
            for key, found in ratios.items()
        ],
    }


def stage_times(report: VideoReport | None) -> dict[str, float]:
    """Report -> ms per frame of each stage; they overlap."""
    if report is None:
        return {}
    return {name: round(1000 * seconds / report.num_frames, 2) for name, seconds in report.seconds.items()}


def start_milliseconds(args: argparse.Namespace, clip: Path, model: str) -> float:
    """From the start of a process to the first frame with poses, and the end of the process."""
    finder = "whole image" if args.whole_image else str(args.detector)
    words = [sys.executable, "-c", START, str(clip), finder, model]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    began = time.perf_counter()
    subprocess.run(words, check=True, env=environment)
    return 1000 * (time.perf_counter() - began)


def measure_memory(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Options and a folder for files -> the facts on memory, with the smallest model."""
    clip = write_clip(folder / "long.mp4", 2, args.frames)
    resident: dict[int, float] = {}

    def note(num_frames: int, total: int) -> None:
        if num_frames in (FIRST_FRAMES, args.frames):
            resident[num_frames] = resident_megabytes()

    predict_videos([clip], open_for(args, "small"), folder / "out", progress=note)
    growth = resident[args.frames] - resident[FIRST_FRAMES]
    return {
        "resident_mb": {str(frames): round(value, 1) for frames, value in resident.items()},
        "growth_mb": round(growth, 1),
        "wanted": MEMORY_LIMIT,
    }


def resident_megabytes() -> float:
    """Memory of this process that is in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Options and a folder for files -> the facts."""
    session = Session.open(exported_baseline(args.models or folder), "cpu", args.threads)
    crop = synthetic(session.manifest.input_size)["noise"][None]
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "threads": args.threads,
        "rounds": args.rounds,
        "people_found_by": "whole image" if args.whole_image else Path(args.detector).name,
        **measure_speed(args, folder, lambda: session.run(crop)),
    }
    if args.frames:
        facts["memory"] = measure_memory(args, folder)
    return facts


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="default", help="shipped name or .onnx file (default: %(default)s)")
    parser.add_argument("--whole-image", action="store_true", help="no detector: each frame shows one person")
    parser.add_argument("--threads", type=int, default=2, help="threads of the yardstick (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=10_000, help="for memory; 0: not measured (default: %(default)s)")
    parser.add_argument("--models", type=Path, help="folder of the exported yardstick, reused if it is there")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    if 0 < args.frames <= FIRST_FRAMES:
        parser.error(f"--frames is {args.frames}, wanted 0 or more than {FIRST_FRAMES}")
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        facts = measure(args, Path(folder))
    print(f"{'part':<24}{'ms':>9}{'ratio':>8}{'wanted':>8}  10 % to 90 %")
    for line in facts["parts"]:
        low, high = line["spread"]
        print(f"{line['part']:<24}{line['ms']:>9.2f}{line['ratio']:>8.2f}{line['wanted']:>8}  {low:.2f} to {high:.2f}")
    if "memory" in facts:
        print(f"memory, MB: {facts['memory']}")
    if args.out:
        files.replace(args.out, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
