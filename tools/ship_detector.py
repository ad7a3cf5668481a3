"""Add a trained person detector to the package: NAME.onnx, NAME.safetensors and the card NAME.json with test scores.

    python tools/ship_detector.py runs/pretrain-feather_detect/best.safetensors ~/.cache/featherpose/data

NAME is the name of the network. The folder holds coco-test, which is evaluated once, for the card. Weights and score
threshold are chosen before that on the validation set. The interval is a 95 % confidence interval, bootstrapped over
images. The latency is in benchmarks/results/pipeline.json (benchmarks/pipeline.py).
"""

import argparse
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ship import WEIGHTS, write_card

from featherpose import api, files
from featherpose.evaluation.detector import DetectorScores
from featherpose.exporting.detector import export_detector
from featherpose.exporting.weights import open_detector

NOT_SCORES = ("false_boxes", "conf_at_90")


def evaluate(file: Path, name: str, data: Path) -> dict[str, Any]:
    """Exported file, its shipped name and the data folder -> entry of the card, in percent."""
    evaluation = api.evaluate(file, data / "coco-test", intervals=True)
    assert isinstance(evaluation.scores, DetectorScores)
    fractions = {key: value for key, value in evaluation.scores.to_dict().items() if key not in NOT_SCORES}
    scores: dict[str, Any] = {key: round(100 * value, 1) for key, value in fractions.items() if value is not None}
    return {
        "data": "coco-test",
        "num_images": evaluation.num_images,
        "percent": scores | {"ap_interval": [round(100 * end, 1) for end in evaluation.intervals["ap"]]},
        "false_boxes": round(evaluation.scores.false_boxes, 3),
        "command": f"featherpose evaluate --model {name} --data coco-test",
        "date": datetime.now(UTC).date().isoformat(),
    }


def ship(source: Path, data: Path) -> Path:
    """Weights file and folder with the test set -> path of the card; writes all three files into the package."""
    network, manifest = open_detector(source)
    path = WEIGHTS / manifest.network
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.onnx"
        export_detector(network, file, manifest)
        # Once: the weights were selected before, and no choice may depend on the test set.
        tested = evaluate(file, manifest.network, data)
    exported = export_detector(
        network, path.with_suffix(".onnx"), replace(manifest, accuracy=(*manifest.accuracy, tested))
    )
    files.replace(path.with_suffix(".safetensors"), source.read_bytes())
    return write_card(path, exported, {"long_side": exported.long_side, "conf": exported.conf})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("data", type=Path)
    print(ship(**vars(parser.parse_args())))
