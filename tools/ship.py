"""Put trained weights into the package: NAME.onnx, NAME.safetensors and the card NAME.json, measured on test photos.

    python tools/ship.py runs/finish-cbam_lite_hrnet_18/best.safetensors ../shared/data/coco-test

The test photos are looked at once, for the card; what to ship is chosen on the validation part before.
"""

import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featherpose import api, files
from featherpose.data.folder import find_folder
from featherpose.export import crops, export, open_weights
from featherpose.manifest import Manifest

WEIGHTS = Path(__file__).resolve().parents[1] / "src/featherpose/weights"


def judge(model: Any, manifest: Manifest, data: Path) -> dict[str, Any]:
    """Network -> its scores in percent on the test photos, with the command that repeats them and the day."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / "model.onnx", manifest, crops=crops.photos(manifest))
        evaluation = api.evaluate(Path(folder) / "model.onnx", data)
    scores = {key: round(100 * value, 1) for key, value in evaluation.scores.to_dict().items() if value is not None}
    command = f"featherpose evaluate --model {manifest.network} --data {data.name} --format coco --boxes gt"
    return {
        **{"data": data.name, "photos": evaluation.photos, "people": evaluation.people, "percent": scores},
        **{"command": command, "date": datetime.now(UTC).date().isoformat()},
    }


def describe(file: Path) -> dict[str, Any]:
    """File -> its name, size and digest."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def ship(source: Path, data: Path) -> Path:
    """Weights file and folder of test photos -> path of the card; all three files lie in the package."""
    model, manifest = open_weights(source)
    manifest = replace(manifest, accuracy=(*manifest.accuracy, judge(model, manifest, data)))
    name = WEIGHTS / manifest.network
    proof = export(model, name.with_suffix(".onnx"), manifest, crops=crops.photos(manifest, find_folder("pose-train")))
    files.replace(name.with_suffix(".safetensors"), source.read_bytes())
    card = {
        **{"name": manifest.network, "options": manifest.options, "input_size": list(manifest.input_size)},
        **{"training": manifest.training, "recipe": manifest.recipe, "accuracy": list(manifest.accuracy)},
        **{"parity": proof.parity, "files": [describe(name.with_suffix(s)) for s in (".onnx", ".safetensors")]},
    }
    files.replace(name.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    return name.with_suffix(".json")


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), Path(sys.argv[2])))
