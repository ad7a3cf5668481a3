"""Which loss learns most from the same people: `python benchmarks/losses.py [--epochs N]`.

Each loss trains `cbam_lite_hrnet_18` at 96x128 from the same fresh weights on the same draws of COCO's people in
`pose-train`, with a process per core; the rate falls along a cosine. Scores are those of the validation part, after
every epoch. Prints a table and writes benchmarks/results/losses.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from featherpose import files
from featherpose.runtime import threads

LOSSES = ("mse", "ohkm", "focal")
RESULTS = Path(__file__).parent / "results" / "losses.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        histories = {loss: learn(loss, arguments.epochs, Path(folder)) for loss in arguments.losses}
    print("AP (PCK) after each epoch")
    for loss, history in histories.items():
        print(f"{loss:6}", *(f"{r['ap']:6.2f} ({r['pck']:.1f})" for r in history))
    files.replace(RESULTS, json.dumps(histories, indent=1).encode())


def learn(loss: str, epochs: int, folder: Path) -> list[dict[str, Any]]:
    """Loss -> the scores after each epoch of a run with it."""
    settings = [
        f"loss={loss}",
        "data.sources=[coco]",
        f"stages.0.epochs={epochs}",
        "schedule={name: cosine, warmup: 100}",
        "optimizer.rate=0.004",
        "ema=0.99",
    ]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(threads.available())]
    words = [word for setting in settings for word in ("--set", setting)]
    run = folder / loss
    command = ["-m", "featherpose", "train", "open-cbam_lite_hrnet_18", *words, "--out", str(run)]
    subprocess.run([sys.executable, *several, *command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads((run / "card.json").read_text())["history"]


if __name__ == "__main__":
    main()
