"""int8 export of a pose network: 8-bit weights and activations, evaluated on the validation set.

Static quantization (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) by onnxruntime: weights per channel,
activations by the ranges seen on training crops. The graph keeps its input and outputs. Keypoints cannot equal those of
the float32 file, so the check of parity gives way to a comparison of scores.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from featherpose import files
from featherpose.errors import FeatherposeError, InputError, ModelError
from featherpose.evaluation.intervals import paired_difference
from featherpose.evaluation.pck import oks_accuracies, oks_of_persons
from featherpose.exporting.onnx import check_path, export, with_manifest
from featherpose.manifest import PoseManifest
from featherpose.recipes.pose import PoseData, PoseRecipe, PoseStage
from featherpose.recipes.reading import recorded
from featherpose.runtime.session import Session
from featherpose.training.tasks.pose_labels import PoseLabels, read_labels
from featherpose.training.tasks.pose_validation import PCK_THRESHOLD, ValidationSet, validation_set_of

MAX_LOSS = 1.0
"""Percentage points that int8 may cost."""
CALIBRATION_CROPS = 256
BATCH = 16
QUANTIZED = ("Conv", "Add", "Clip", "Relu", "Resize")
"""Operators between the first and the last convolution that work on 8 bits; the others convert there and back."""


def export_int8(
    model: nn.Module,
    path: Path,
    manifest: PoseManifest,
    *,
    crops: Mapping[str, NDArray[np.uint8]] | None = None,
    data: str | None = None,
    max_loss: float = MAX_LOSS,
) -> PoseManifest:
    """Network, path of an .onnx file and its manifest -> the manifest with the scores of float32 and int8 as `parity`.

    The float32 file is exported first, with its check of parity on `crops`. The ranges of the activations come from
    training samples of the manifest's recipe; both files are scored on its validation set, and the int8 file is written
    only if it loses at most `max_loss` percentage points.

    Args:
        data: a data set of docs/data.md with the network's keypoints, in place of the recipe's.

    Raises:
        ModelError: a recipe whose data cannot be used, or a larger loss.
    """
    check_path(path)
    truth, calibration = crops_of(manifest, data)
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        exact = Path(folder) / "float32.onnx"
        engines = export(model, exact, manifest, crops=crops).parity["engines"]
        draft = Path(folder) / path.name
        quantize(exact, draft, calibration)
        name, before = scores_of(exact, truth)
        scores = compared(name, before, scores_of(draft, truth)[1])
        if scores["difference"][0] < -max_loss:
            raise ModelError(
                f"int8 costs {-scores['difference'][0]:.1f} percentage points of {scores['score']}"
                f" ({scores['float32']:.1f} in float32, {scores['int8']:.1f} in int8), allowed {max_loss:g}; no file is"
                " written. Export without int8, or allow more (--max-loss)."
            )
        measured = {"data": data or "validation set of the training data", **scores}
        manifest = replace(manifest, parity={"engines": engines, "int8": measured})
        files.replace(path, with_manifest(_standard(onnx.load(draft)), manifest))
    return manifest


def quantize(
    source: Path, out: Path, crops: NDArray[np.uint8], *, first: int = 2, last: int = 1, weight_bits: int = 7
) -> None:
    """Exported pose model -> the same with 8-bit convolutions, written to `out`.

    Args:
        crops: uint8 (N, H, W, 3), on which the ranges of the activations are calibrated.
        first: so many of the first convolutions stay in float32: they see few channels and need the precision, and the
            normalization before them is slow beside int8.
        last: so many of the last ones: the heatmaps, an output, are not rounded to 256 levels.
        weight_bits: 8 or 7. 8-bit weights saturate on processors without VNNI instructions, which add two products in
            16 bits, and there the file would be less accurate than where it was evaluated.
    """
    if weight_bits not in (7, 8):
        raise InputError(f"weight_bits is {weight_bits}, wanted 7 or 8.")
    with _quiet(), tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        if len(convolutions) <= first + last:
            raise ModelError(f"{source.name} has {len(convolutions)} convolutions: too few for int8.")
        start = convolutions[first]
        end = convolutions[-last] if last else convolutions[-1] + 1
        quantize_static(
            prepared,
            out,
            _Batches(crops),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=[node.name for node in [*nodes[:start], *nodes[end:]]],
        )


def _standard(file: onnx.ModelProto) -> onnx.ModelProto:
    """Quantized model -> the same without the operator sets of which it uses nothing."""
    kept = [entry for entry in file.opset_import if not entry.domain]
    del file.opset_import[:]
    file.opset_import.extend(kept)
    onnx.checker.check_model(file)
    return file


class _Batches(CalibrationDataReader):
    """Crops in batches, as the calibration asks for them."""

    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self._batches = iter([crops[start : start + BATCH] for start in range(0, len(crops), BATCH)])

    def get_next(self) -> Any:
        """The next input of the graph; None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {"crops": batch}


def crops_of(manifest: PoseManifest, data: str | None) -> tuple[ValidationSet, NDArray[np.uint8]]:
    """Manifest, and a data set in place of its recipe's -> validation set, and crops of training samples spread evenly
    over the data set."""
    if not manifest.recipe:
        raise ModelError("int8 needs the recipe of the weights, which names their data; this file records none.")
    try:
        recipe = recorded(manifest.recipe)
        assert isinstance(recipe, PoseRecipe)
        # Scores are those on human annotations, and crops need no others.
        used = recipe.data if data is None else PoseData(folder=data, keypoint_boxes=())
        recipe = recipe.model_copy(update={"data": used.model_copy(update={"labels": "ground_truth"})})
        labels = read_labels(recipe)
        rows = labels.training_rows[:: max(1, len(labels.training_rows) // CALIBRATION_CROPS)][:CALIBRATION_CROPS]
        truth = _cropped(manifest, labels, recipe)
        calibration = _cropped(manifest, replace(labels, validation_rows=rows), recipe).crops
    except FeatherposeError as error:
        raise ModelError(
            f"int8 is calibrated and evaluated on the data of the weights' recipe, which cannot be used: {error} Give"
            " the data set with --data."
        ) from error
    return truth, calibration


def _cropped(manifest: PoseManifest, labels: PoseLabels, recipe: PoseRecipe) -> ValidationSet:
    return validation_set_of(labels, PoseStage(input_size=manifest.input_size), manifest.make_codec(), recipe)


def compared(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    """Name of a score, and the score of each person in float32 and in int8 -> both means, and the difference with its
    interval, in percent."""
    difference = paired_difference(100 * before[None], 100 * after[None])
    return {
        "persons": len(before),
        "score": name,
        "float32": 100 * float(before.mean()),
        "int8": 100 * float(after.mean()),
        "difference": list(difference),
    }


def scores_of(file: Path, truth: ValidationSet) -> tuple[str, NDArray[np.float64]]:
    """Model file and validation set -> name of the score, and the score of each person, 0 to 1.

    That is the OKS accuracy of those whose keypoints are defined as COCO's; PCK where there are none.
    """
    session = Session.open(file, "cpu")
    starts = range(0, len(truth.crops), BATCH)
    keypoints = np.concatenate([session.run(truth.crops[start : start + BATCH])["keypoints"] for start in starts])
    coco = truth.is_coco
    if coco.any():
        facts = (truth.keypoints[coco], truth.visible[coco], truth.areas[coco], truth.skeleton.sigmas)
        return "OKS accuracy", oks_accuracies(oks_of_persons(keypoints[coco], *facts))
    counted = truth.visible > 0
    labeled = counted.any(axis=1)
    right = np.linalg.norm(keypoints - truth.keypoints, axis=-1) <= PCK_THRESHOLD * truth.sides[:, None]
    return "PCK", ((right & counted).sum(axis=1)[labeled] / counted.sum(axis=1)[labeled]).astype(np.float64)


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keep back what onnxruntime logs about preparing the model: that has been done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
