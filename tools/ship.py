"""Add trained weights to the package: NAME.onnx, NAME.safetensors and the model card NAME.json with test scores.

    python tools/ship.py runs/finetune-cbam_lite_hrnet_18/best.safetensors ~/.cache/featherpose/data
    python tools/ship.py runs/pretrain-feather_pose/best.safetensors ~/.cache/featherpose/data --sized

NAME is the name of the network; --sized appends the input size, for networks that are shipped in several sizes. The
folder holds coco-test and mpii-test, which are evaluated once, for the card. Weights are selected before that on the
validation set, which must be found through FEATHERPOSE_DATA. Intervals are 95 % confidence intervals, bootstrapped over
images, see `featherpose.evaluation.intervals`.
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
from featherpose.codecs.keypoints import keypoints_of_crops
from featherpose.data.folder import find_folder
from featherpose.evaluation.anatomy import oks_radii
from featherpose.evaluation.calibration import calibration
from featherpose.evaluation.intervals import bootstrap
from featherpose.evaluation.pck import validation_oks
from featherpose.evaluation.result import Evaluation
from featherpose.exporting import crops, export, open_weights
from featherpose.manifest import VERSION, Manifest, PoseManifest
from featherpose.recipes.pose import PoseRecipe, PoseStage
from featherpose.recipes.reading import recorded
from featherpose.training.tasks.pose_labels import PoseLabels, read_labels
from featherpose.training.tasks.pose_validation import ValidationSet, predict, validation_set_of

WEIGHTS = Path(__file__).resolve().parents[1] / "src/featherpose/weights"


def recorded_recipe(manifest: PoseManifest) -> PoseRecipe:
    """Manifest -> the recipe that the weights were trained by."""
    recipe = recorded(manifest.recipe)
    assert isinstance(recipe, PoseRecipe)
    return recipe


def validation_predictions(
    model: nn.Module, manifest: PoseManifest, labels: PoseLabels, recipe: PoseRecipe
) -> tuple[ValidationSet, NDArray[np.float32], NDArray[np.float32]]:
    """Network, its manifest, and the labels and recipe that define the validation set -> the set at the network's input
    size, keypoints (N, K, 2) in crop pixels, and their scores."""
    codec = manifest.make_codec()
    validation_set = validation_set_of(labels, PoseStage(input_size=manifest.input_size), codec, recipe)
    keypoints, scores = keypoints_of_crops(
        lambda crops: predict(model, crops, torch.device("cpu")),
        validation_set.crops,
        codec,
        validation_set.skeleton.flip_order,
        flip_test=validation_set.validation.flip_test,
        blur_kernel=validation_set.validation.blur_kernel,
    )
    return validation_set, keypoints, scores


def keypoint_scores(model: nn.Module, manifest: PoseManifest, name: str) -> dict[str, Any]:
    """Network, its manifest and shipped name -> what its keypoint scores mean, entry of the card.

    Of the visible keypoints of the COCO persons of the validation set, in ground-truth boxes, those are right that lie
    within an OKS of 0.5 of their place. Test sets are not used, because users choose a threshold by it.
    """
    recipe = recorded_recipe(manifest)
    validation_set, keypoints, scores = validation_predictions(model, manifest, read_labels(recipe), recipe)
    errors = np.linalg.norm(keypoints - validation_set.keypoints, axis=-1)
    right = errors <= oks_radii(validation_set.skeleton.sigmas) * np.sqrt(validation_set.areas)[:, None]
    counted = (validation_set.visible == 2) & validation_set.is_coco[:, None]
    found = calibration(scores[counted], right[counted])
    return {
        "data": "visible keypoints of the COCO persons of the validation set, ground-truth boxes, right within OKS 0.5",
        **json.loads(json.dumps(found.to_dict()), parse_float=lambda text: round(float(text), 4)),
        "command": f"python tools/calibrate.py {name}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def validation_interval(model: nn.Module, manifest: PoseManifest) -> tuple[float, float]:
    """Network and its manifest -> confidence interval of the OKS accuracy on which it was selected."""
    recipe = recorded_recipe(manifest)
    labels = read_labels(recipe)
    validation_set, found, _ = validation_predictions(model, manifest, labels, recipe)
    rows_of_images = coco_rows_by_image(labels, validation_set)

    def score(drawn: NDArray[np.int64]) -> float:
        rows = np.concatenate([rows_of_images[image] for image in drawn])
        truth = (
            validation_set.keypoints[rows],
            validation_set.visible[rows],
            validation_set.areas[rows],
            validation_set.skeleton.sigmas,
        )
        return validation_oks(found[rows], *truth).oks_accuracy

    return bootstrap(score, len(rows_of_images))


def coco_rows_by_image(labels: PoseLabels, validation_set: ValidationSet) -> list[list[int]]:
    """Rows of the validation set with the COCO persons of each image: persons of one image are not independent."""
    rows_by_image: defaultdict[str, list[int]] = defaultdict(list)
    for row, (person, is_coco) in enumerate(zip(labels.validation_rows, validation_set.is_coco, strict=True)):
        if is_coco:
            rows_by_image[labels.samples[person].image].append(row)
    return list(rows_by_image.values())


def evaluate_on_test_sets(model: Any, manifest: PoseManifest, name: str, data: Path) -> list[dict[str, Any]]:
    """Network, its manifest and shipped name, and the data folder -> scores in percent on both test sets."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model, file, manifest, crops=crops.image_crops(manifest))
        on_coco = api.evaluate(file, data / "coco-test", intervals=True)
        # MPII's squares are larger than COCO's boxes: without a margin, persons have the size of the training set.
        on_mpii = api.evaluate(file, data / "mpii-test", format="mpii", padding=1, intervals=True)
    command = f"featherpose evaluate --model {name}"
    limbs = {"limbs_interval": on_mpii.intervals["limbs"]}
    return [
        _entry(on_coco, f"{command} --data coco-test", {"ap_interval": on_coco.intervals["ap"]}),
        _entry(
            on_mpii,
            f"{command} --data mpii-test --format mpii --padding 1",
            limbs,
        ),
    ]


def _entry(evaluation: Evaluation[Any], command: str, intervals: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Evaluation, the command that repeats it and intervals as fractions -> entry of the card, in percent."""
    scores = {key: round(100 * value, 1) for key, value in evaluation.scores.to_dict().items() if value is not None}
    scores |= {key: _percent(ends) for key, ends in intervals.items()}
    return {
        "data": command.split("--data ")[1].split()[0],
        "num_images": evaluation.num_images,
        "num_instances": evaluation.num_instances,
        "percent": scores,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _percent(interval: tuple[float, float]) -> list[float]:
    return [round(100 * end, 1) for end in interval]


def describe(file: Path) -> dict[str, Any]:
    """File -> its name, size in bytes and SHA-256 digest."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def ship(source: Path, data: Path, sized: bool) -> Path:
    """Weights file and folder with both test sets -> path of the card; writes all three files into the package."""
    model, manifest = open_weights(source)
    name = f"{manifest.network}-{manifest.input_size}" if sized else manifest.network
    validation_accuracy = [
        {**entry, "oks_accuracy_interval": _percent(validation_interval(model, manifest))}
        for entry in manifest.accuracy
    ]
    # Once: the weights were selected before, and no choice may depend on the test sets.
    manifest = replace(manifest, accuracy=(*validation_accuracy, *evaluate_on_test_sets(model, manifest, name, data)))
    path = WEIGHTS / name
    parity_crops = crops.image_crops(manifest, find_folder("pose-train"))
    exported = export(model, path.with_suffix(".onnx"), manifest, crops=parity_crops)
    files.replace(path.with_suffix(".safetensors"), source.read_bytes())
    facts = {
        "input_size": manifest.input_size.to_dict(),
        "keypoint_scores": keypoint_scores(model, manifest, name),
    }
    return write_card(path, exported, facts)


def write_card(path: Path, manifest: Manifest, facts: dict[str, Any]) -> Path:
    """Path of a shipped model without suffix, the manifest in its file, and further facts -> path of the card."""
    card = {
        "version": VERSION,
        "kind": manifest.kind,
        "name": path.name,
        "network": manifest.network,
        "options": manifest.options,
        **facts,
        "training": manifest.training,
        "recipe": manifest.recipe,
        "accuracy": list(manifest.accuracy),
        "parity": manifest.parity,
        "files": [describe(path.with_suffix(suffix)) for suffix in (".onnx", ".safetensors")],
    }
    file = path.with_suffix(".json")
    files.replace(file, (json.dumps(card, indent=1) + "\n").encode())
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sized", action="store_true")
    print(ship(**vars(parser.parse_args())))
