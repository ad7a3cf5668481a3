"""Put trained weights into the package: NAME.onnx, NAME.safetensors and the card NAME.json, measured on test photos.

    python tools/ship.py runs/finish-cbam_lite_hrnet_18/best.safetensors ../shared/data
    python tools/ship.py runs/open-feather_pose/best.safetensors ../shared/data --sized

NAME is the network's; with --sized the input size follows, for a network that comes along in several. The folder holds
coco-test and mpii-test, whose photos are looked at once, for the card; what to ship is chosen on the validation part
before, which FEATHERPOSE_DATA must still have. Intervals hold 95 % of the scores of photos (or MPII's people) drawn
anew, `measure.intervals`.
"""

import argparse
import hashlib
import json
import tempfile
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featherpose import api, files
from featherpose.data.coco import read_coco
from featherpose.data.folder import find_folder
from featherpose.data.mpii import Mpii, read_mpii
from featherpose.evaluation.intervals import ap_interval, bootstrap
from featherpose.evaluation.mpii import LIMBS
from featherpose.evaluation.pck import validation_oks
from featherpose.evaluation.pckh import pckh
from featherpose.evaluation.result import Evaluation
from featherpose.exporting import crops, export, open_weights
from featherpose.manifest import VERSION, Manifest
from featherpose.recipes.recipe import from_dict
from featherpose.skeleton import MPII16
from featherpose.training.tasks import pose

WEIGHTS = Path(__file__).resolve().parents[1] / "src/featherpose/weights"


def validation_interval(model: nn.Module, manifest: Manifest) -> tuple[float, float]:
    """Network and what is known of it -> the interval of the AP-like figure that it was chosen by."""
    recipe = from_dict({key: value for key, value in manifest.recipe.items() if key != "digest"})
    stage = next(stage for stage in recipe.stages if stage.input_size == manifest.input_size)
    labeled = pose.read_samples(recipe)
    validation_set = pose.validation_set_of(labeled, stage, pose.codec_of(recipe, stage), recipe.validation)
    found = pose.predict_keypoints(model, validation_set, torch.device("cpu"))
    image_names: defaultdict[str, list[int]] = defaultdict(list)
    for row, (person, is_coco) in enumerate(zip(labeled.validation_rows, validation_set.is_coco, strict=True)):
        if is_coco:
            image_names[labeled.samples[person].image].append(row)
    rows = list(image_names.values())

    def score(drawn: NDArray[np.int64]) -> float:
        of = np.concatenate([rows[image_name] for image_name in drawn])
        labels = (
            validation_set.keypoints[of],
            validation_set.visible[of],
            validation_set.areas[of],
            validation_set.skeleton.sigmas,
        )
        return validation_oks(found[of], *labels).oks_accuracy

    return bootstrap(score, len(rows))


def evaluate_on_tests(model: Any, manifest: Manifest, name: str, data: Path) -> list[dict[str, Any]]:
    """Network and the name it will have -> scores in percent on both folders of test photos."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model, file, manifest, crops=crops.image_crops(manifest))
        on_coco = api.evaluate(file, data / "coco-test")
        on_mpii = api.evaluate(file, data / "mpii-test", format="mpii", padding=1)
    interval = ap_interval(read_coco(data / "coco-test").truth, on_coco.results, manifest.skeleton.sigmas)
    return [
        _entry(on_coco, f"featherpose evaluate --model {name} --data coco-test", {"ap_interval": interval}),
        _entry(
            on_mpii,
            f"featherpose evaluate --model {name} --data mpii-test --format mpii --padding 1",
            {"limbs_interval": limbs_interval(read_mpii(data / "mpii-test"), on_mpii)},
        ),
    ]


def limbs_interval(people: Mpii, evaluation: Evaluation[Any]) -> tuple[float, float]:
    """MPII's people and what a model found -> the interval of PCKh@0.5 over arms and legs."""
    keypoints = np.array(
        [[keypoint or (np.inf, np.inf) for keypoint in result["keypoints"]] for result in evaluation.results]
    )
    visible = people.visible * np.isin(MPII16.keypoint_names, LIMBS)

    def score(rows: NDArray[np.int64]) -> float:
        return pckh(keypoints[rows], people.keypoints[rows], visible[rows], people.head_sizes[rows]).mean

    return bootstrap(score, len(people))


def _entry(evaluation: Evaluation[Any], command: str, intervals: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Evaluation, the command that repeats it and intervals as fractions -> its place on the card, in percent."""
    scores = {key: round(100 * value, 1) for key, value in evaluation.scores.to_dict().items() if value is not None}
    scores |= {key: _percent(ends) for key, ends in intervals.items()}
    return {
        **{
            "data": command.split("--data ")[1].split()[0],
            "num_images": evaluation.num_images,
            "num_instances": evaluation.num_instances,
        },
        **{"percent": scores, "command": command, "date": datetime.now(UTC).date().isoformat()},
    }


def _percent(interval: tuple[float, float]) -> list[float]:
    return [round(100 * end, 1) for end in interval]


def describe(file: Path) -> dict[str, Any]:
    """File -> its name, size and digest."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def ship(source: Path, data: Path, sized: bool) -> Path:
    """Weights file and folder of both kinds of test photos -> path of the card; all three files lie in the package."""
    model, manifest = open_weights(source)
    name = manifest.network + (f"-{manifest.input_size}" if sized else "")
    chosen_by = [
        {**entry, "oks_accuracy_interval": _percent(validation_interval(model, manifest))}
        for entry in manifest.accuracy
    ]
    manifest = replace(manifest, accuracy=(*chosen_by, *evaluate_on_tests(model, manifest, name, data)))
    path = WEIGHTS / name
    parity_crops = export(
        model, path.with_suffix(".onnx"), manifest, crops=crops.image_crops(manifest, find_folder("pose-train"))
    )
    files.replace(path.with_suffix(".safetensors"), source.read_bytes())
    card = {
        **{"version": VERSION, "name": name, "network": manifest.network, "options": manifest.options},
        **{"input_size": manifest.input_size.to_dict()},
        **{"training": manifest.training, "recipe": manifest.recipe, "accuracy": list(manifest.accuracy)},
        **{"parity": parity_crops.parity, "files": [describe(path.with_suffix(s)) for s in (".onnx", ".safetensors")]},
    }
    files.replace(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    return path.with_suffix(".json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sized", action="store_true")
    print(ship(**vars(parser.parse_args())))
