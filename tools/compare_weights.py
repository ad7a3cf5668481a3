"""Compare two weights files on the validation set: the scores of each, and the difference with its interval.

    FEATHERPOSE_DATA=../shared python tools/compare_weights.py feather_pose-256x192 runs/mine/best.safetensors

Weights are shipped if they are better here, before a test set is used. The validation set is that of the second file's
recipe, for both; neither may have been trained on it. Both are files (.safetensors) or shipped names, both of pose
networks or both of person detectors. The difference is second - first, in percent; its 95 % confidence interval is
bootstrapped over images, the same draws for both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from ship import coco_rows_by_image, recorded_recipe, validation_predictions

from featherpose import weights
from featherpose.evaluation.detection import (
    TALL,
    MatchedImage,
    average_precision,
    match_at_thresholds,
    match_images,
    recall_of_matched,
)
from featherpose.evaluation.intervals import bootstrap
from featherpose.evaluation.pck import oks_accuracies
from featherpose.exporting import open_weights
from featherpose.exporting.weights import open_detector
from featherpose.kinds import DETECTOR
from featherpose.networks.checkpoints import read_facts
from featherpose.oks import oks
from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.reading import recorded
from featherpose.training.tasks.detector import DetectorTask
from featherpose.training.tasks.detector_validation import detections_of
from featherpose.training.tasks.pose_labels import read_labels

Score = Callable[[NDArray[np.int64]], float]
"""Indices of images, drawn with replacement -> score, a fraction."""


def pose_scores(files: Sequence[str]) -> tuple[int, dict[str, list[Score]]]:
    """Weights files -> number of images, and by name the score of each file; of COCO persons in labeled boxes."""
    opened = [open_weights(file) for file in files]
    recipe = recorded_recipe(opened[-1][1])
    labels = read_labels(recipe)
    rows_of_images: list[list[int]] = []
    similarities: list[NDArray[np.float64]] = []
    for model, manifest in opened:
        truth, found, _ = validation_predictions(model, manifest, labels, recipe)
        rows_of_images = coco_rows_by_image(labels, truth)
        similarity = oks(found, truth.keypoints, truth.areas, truth.skeleton.sigmas, truth.visible)
        # Who has no labeled keypoint is not scored.
        similarities.append(np.where((truth.visible > 0).any(axis=1), similarity, np.nan))

    def mean(values: NDArray[np.float64]) -> Score:
        return lambda drawn: float(np.nanmean(np.concatenate([values[rows_of_images[image]] for image in drawn])))

    found_by_name = {
        "oks_accuracy": [mean(np.where(np.isnan(values), np.nan, oks_accuracies(values))) for values in similarities],
        "OKS": [mean(values) for values in similarities],
    }
    return len(rows_of_images), found_by_name


def detector_scores(files: Sequence[str]) -> tuple[int, dict[str, list[Score]]]:
    """Weights files of person detectors -> number of images, and by name the score of each file."""
    opened = [open_detector(file) for file in files]
    recipe = recorded(opened[-1][1].recipe)
    assert isinstance(recipe, DetectorRecipe)
    task = DetectorTask(recipe)
    by_name: dict[str, list[Score]] = {"AP": [], "AP50": [], "recall": []}
    count = 0
    for network, manifest in opened:
        found, _ = detections_of(network, task.validation_set(manifest.long_side), torch.device("cpu"))
        matched, tall = match_at_thresholds(found), match_images(found, TALL)
        by_name["AP"].append(_mean_precision(matched))
        by_name["AP50"].append(_mean_precision(matched[:1]))
        by_name["recall"].append(lambda drawn, tall=tall: recall_of_matched([tall[image] for image in drawn], 1.0))
        count = len(found)
    return count, by_name


def _mean_precision(matched: list[list[MatchedImage]]) -> Score:
    """Images matched at some IoU thresholds -> average precision of drawn images, mean over the thresholds."""
    return lambda drawn: float(np.mean([average_precision([images[image] for image in drawn]) for images in matched]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    arguments = parser.parse_args()
    files = [str(weights.find(name, ".safetensors")) for name in (arguments.first, arguments.second)]
    kinds = {read_facts(file).get("kind") == DETECTOR.name for file in files}
    if len(kinds) == 2:
        parser.error("one of the files is of a person detector, the other of a pose network.")
    count, scores = (detector_scores if kinds == {True} else pose_scores)(files)
    print(f"{count} images")
    print("| score | first | second | difference |")
    print("|---|---|---|---|")
    everything = np.arange(count)
    for name, (first, second) in scores.items():
        low, high = bootstrap(lambda drawn, a=first, b=second: b(drawn) - a(drawn), count)
        one, other = first(everything), second(everything)
        cells = [f"{100 * one:.1f}", f"{100 * other:.1f}", f"{100 * (other - one):+.1f}"]
        print(f"| {name} | {' | '.join(cells)} ({100 * low:+.1f} to {100 * high:+.1f}) |")


if __name__ == "__main__":
    main()
