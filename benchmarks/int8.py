"""What int8 costs and saves: a shipped pose model in several ways, on the validation set and on the clock.

    FEATHERPOSE_DATA=../shared python benchmarks/int8.py default
    FEATHERPOSE_DATA=../shared python benchmarks/int8.py accurate --seconds 10

The first of them is that of `featherpose export --int8`. Scores are those of the COCO persons of the validation set in
labeled boxes; the difference from float32 has a 95 % confidence interval over persons. The ratio is that of the latency
of one crop on one thread to float32 in the same run; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from featherpose import weights
from featherpose.exporting.int8 import compared, crops_of, quantize, scores_of
from featherpose.manifest import PoseManifest, of_kind, read_manifest
from featherpose.runtime.latency import measure

WAYS: dict[str, dict[str, Any]] = {
    "as exported": {},
    "one convolution more": {"first": 1},
    "8-bit weights": {"weight_bits": 8},
    "8-bit weights, the last convolution too": {"weight_bits": 8, "last": 0},
    "8-bit weights, every convolution": {"weight_bits": 8, "first": 0, "last": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped pose model")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing, for each file")
    arguments = parser.parse_args()
    source = weights.find(arguments.model)
    truth, calibration = crops_of(of_kind(read_manifest(source), PoseManifest, source), None)
    with tempfile.TemporaryDirectory() as folder:
        files = {"float32": source}
        for number, (name, options) in enumerate(WAYS.items()):
            files[name] = Path(folder) / f"{number}.onnx"
            quantize(source, files[name], calibration, **options)
        latencies = measure(list(files.items()), seconds=arguments.seconds)
        print("| | score | difference | MB | ratio |")
        print("|---|---|---|---|---|")
        score, before = scores_of(source, truth)
        for (name, file), latency in zip(files.items(), latencies, strict=True):
            found = compared(score, before, before if file == source else scores_of(file, truth)[1])
            mean, low, high = found["difference"]
            difference = "" if file == source else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
            size = file.stat().st_size / 1e6
            print(f"| {name} | {found['int8']:.1f} | {difference} | {size:.1f} | {latency.ratio:.2f} |")


if __name__ == "__main__":
    main()
