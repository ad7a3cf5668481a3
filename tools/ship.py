"""Put trained weights into the package: NAME.onnx, NAME.safetensors and the card NAME.json, measured on test photos.

    python tools/ship.py runs/finish-cbam_lite_hrnet_18/best.safetensors ../shared/data/coco-test
    python tools/ship.py runs/open-feather_pose/best.safetensors ../shared/data/coco-test --sized

NAME is the network's; with --sized the input size follows, for a network that comes along in several.
The test photos are looked at once, for the card; what to ship is chosen on the validation part before.
"""

import argparse
import hashlib
import json
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


def judge(model: Any, manifest: Manifest, name: str, data: Path) -> dict[str, Any]:
    """Network and the name it will have -> scores in percent on the test photos, the command for them, the day."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, Path(folder) / "model.onnx", manifest, crops=crops.photos(manifest))
        evaluation = api.evaluate(Path(folder) / "model.onnx", data)
    scores = {key: round(100 * value, 1) for key, value in evaluation.scores.to_dict().items() if value is not None}
    command = f"featherpose evaluate --model {name} --data {data.name} --format coco --boxes gt"
    return {
        **{"data": data.name, "photos": evaluation.photos, "people": evaluation.people, "percent": scores},
        **{"command": command, "date": datetime.now(UTC).date().isoformat()},
    }


def describe(file: Path) -> dict[str, Any]:
    """File -> its name, size and digest."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def ship(source: Path, data: Path, sized: bool) -> Path:
    """Weights file and folder of test photos -> path of the card; all three files lie in the package."""
    model, manifest = open_weights(source)
    name = manifest.network + ("-{}x{}".format(*manifest.input_size) if sized else "")
    manifest = replace(manifest, accuracy=(*manifest.accuracy, judge(model, manifest, name, data)))
    path = WEIGHTS / name
    proof = export(model, path.with_suffix(".onnx"), manifest, crops=crops.photos(manifest, find_folder("pose-train")))
    files.replace(path.with_suffix(".safetensors"), source.read_bytes())
    card = {
        **{"name": name, "network": manifest.network, "options": manifest.options},
        **{"input_size": list(manifest.input_size)},
        **{"training": manifest.training, "recipe": manifest.recipe, "accuracy": list(manifest.accuracy)},
        **{"parity": proof.parity, "files": [describe(path.with_suffix(s)) for s in (".onnx", ".safetensors")]},
    }
    files.replace(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    return path.with_suffix(".json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sized", action="store_true")
    print(ship(**vars(parser.parse_args())))
