"""Export of a network to one ONNX file: uint8 crops in, keypoints out, manifest included, parity checked first."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnx
import onnxscript  # pyright: ignore[reportUnusedImport]  # noqa: F401 - torch's exporter needs it: fail here, not later
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featherpose import files
from featherpose.errors import InputError, ModelError
from featherpose.exporting import crops as parity_crops
from featherpose.exporting.decode import graph_decoder
from featherpose.exporting.lite_hrnet import for_engines
from featherpose.exporting.parity import Outputs, check_parity
from featherpose.kinds import POSE
from featherpose.manifest import Manifest, PoseManifest
from featherpose.networks.preprocess import Normalize
from featherpose.onnx_metadata import KEY
from featherpose.runtime.session import Session

# onnxruntime runs average pooling of opset 19 and later outside its fast memory layout, 3 to 4 times slower:
# the latency of cbam_lite_hrnet_18 grows by 10 % at the exporter's default opset 20.
OPSET = 18
NOISY_LOGGERS = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")


@runtime_checkable
class ChangesForExport(Protocol):
    """A network whose layers differ between training and inference."""

    def for_export(self) -> nn.Module:
        """A new network with equal outputs in eval mode, which is exported in its place."""
        ...


class Graph(nn.Module):
    """The exported graph: crops uint8 (N, H, W, 3) RGB -> keypoints (N, K, 2) px, scores (N, K), heatmaps."""

    def __init__(self, network: nn.Module, manifest: PoseManifest) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.network = network
        self.decode = graph_decoder(manifest.make_codec())

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heatmaps = self.heatmaps(crops)  # (N, K, h, w)
        keypoints, scores = self.decode(heatmaps)  # (N, K, 2), (N, K)
        return keypoints, scores, heatmaps

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Crops as above -> heatmaps (N, K, h, w)."""
        # Contiguous: the permuted crops are channels_last, for which layers would write transposes into the graph.
        return self.network(self.normalize(crops).contiguous())

    @torch.inference_mode()
    def run(self, crops: NDArray[np.uint8]) -> Outputs:
        """`forward` on numpy arrays."""
        keypoints, scores, heatmaps = self(torch.from_numpy(crops))
        return keypoints.numpy(), scores.numpy(), heatmaps.numpy()


def export(
    model: nn.Module,
    path: str | Path,
    manifest: PoseManifest,
    *,
    crops: Mapping[str, NDArray[np.uint8]] | None = None,
    plain: bool = False,
) -> PoseManifest:
    """Network, path of an .onnx file and its manifest -> the manifest with the parity result added.

    The file is written only if torch and onnxruntime agree (`parity.check_parity`) on `crops`, by name and uint8
    (H, W, 3) RGB of the manifest's size (default: the example images), and on synthetic crops. Otherwise the error says
    where they differ, and nothing is written. The network itself is not changed. `plain`: a Lite-HRNet as it was
    trained, not as engines run it fast (`lite_hrnet.for_engines`): the yardstick of latencies.
    """
    path = Path(path)
    check_path(path)
    graph = Graph(copy.deepcopy(model).cpu(), manifest).eval()
    parity_inputs = _checked_crops(crops, manifest) | parity_crops.synthetic(manifest.input_size)
    _check_heatmaps(graph, manifest, next(iter(parity_inputs.values())))
    # Two crops: torch takes the size of a dimension of 1 as fixed.
    example = torch.from_numpy(np.stack(list(parity_inputs.values())[:2]))
    # The file of the form for export is compared with the graph of the trained form, so that merging is checked, too.
    merged = form_for_export(graph.network)
    exported = Graph(merged if plain else for_engines(merged), manifest).eval()
    file = to_onnx(exported, example, POSE.input.name, POSE.output_names)
    codec = manifest.make_codec()
    keypoint_names = manifest.skeleton.keypoint_names
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        # Through the session of the runtime, so that what is checked is what users run.
        draft = Path(folder) / path.name
        draft.write_bytes(with_manifest(file, manifest))
        session = Session.open(draft, "cpu")
        parity = check_parity(graph.run, lambda pixels: _run(session, pixels), parity_inputs, codec, keypoint_names)
    manifest = replace(manifest, parity=parity)
    files.replace(path, with_manifest(file, manifest))
    return manifest


def _run(session: Session, pixels: NDArray[np.uint8]) -> Outputs:
    outputs = session.run(pixels)
    return outputs["keypoints"], outputs["scores"], outputs["heatmaps"]


def form_for_export(network: nn.Module) -> nn.Module:
    """Network -> the form to export: with merged branches if the network has such a form, else the network itself."""
    return network.for_export() if isinstance(network, ChangesForExport) else network


def to_onnx(module: nn.Module, example: Tensor, input_name: str, output_names: Sequence[str]) -> onnx.ModelProto:
    """Module in eval mode, example input, names of input and outputs -> the checked ONNX model.

    The first dimension of the example, 2 or more, becomes the dynamic dimension "N"; the others are fixed.
    """
    file = convert(module, example, input_name, output_names, {0: torch.export.Dim("N")})
    _check_dynamic_batch(file)
    onnx.checker.check_model(file, full_check=True)
    return file


def convert(
    module: nn.Module, example: Tensor, input_name: str, output_names: Sequence[str], dynamic: Mapping[int, Any]
) -> onnx.ModelProto:
    """As `to_onnx`, with the dynamic dimensions of the input as torch.export describes them; the model is unchecked."""
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=(dict(dynamic),),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(f"torch cannot export this network to ONNX ({_first_line(error)}).") from error
    file: onnx.ModelProto = program.model_proto
    _strip_metadata(file)
    return file


def check_path(path: Path) -> None:
    """InputError unless an .onnx file can be written there."""
    if path.suffix != ".onnx":
        raise InputError(f"{path}: the exported file must be named *.onnx, for example {path.stem}.onnx.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it first, or choose another one for {path.name}.")


def _checked_crops(crops: Mapping[str, NDArray[np.uint8]] | None, manifest: PoseManifest) -> parity_crops.Crops:
    height, width = manifest.input_size.shape
    checked = parity_crops.image_crops(manifest) if crops is None else dict(crops)
    for name, crop in checked.items():
        if crop.dtype != np.uint8 or crop.shape != (height, width, 3):
            raise InputError(f"Crop {name!r} is {crop.dtype} {crop.shape}, wanted uint8 ({height}, {width}, 3).")
    return checked


def _check_heatmaps(graph: Graph, manifest: PoseManifest, crop: NDArray[np.uint8]) -> None:
    """The network must accept the manifest's input size and output the heatmaps that its skeleton and codec require."""
    wanted = (manifest.skeleton.num_keypoints, *manifest.make_codec().heatmap_size.shape)
    with torch.inference_mode():
        heatmaps = graph.heatmaps(torch.from_numpy(crop[None]))  # (1, K, h, w)
    if heatmaps.shape[1:] != wanted:
        raise ModelError(
            f"The network outputs heatmaps {tuple(heatmaps.shape[1:])}; skeleton {manifest.skeleton.name!r} and codec "
            f"{manifest.make_codec().name!r} at {manifest.input_size} need {wanted}."
        )


@contextmanager
def _quiet() -> Generator[None]:
    """Suppress the messages that torch's exporter emits for every network.

    It warns about a deprecated name in its own code (LeafSpec), and logs that torchvision is missing and which
    operators it does not fold.
    """
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_dynamic_batch(file: onnx.ModelProto) -> None:
    """Torch silently fixes N where a network's code depends on the batch size."""
    for value in (*file.graph.input, *file.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_param != "N":
            raise ModelError(
                f"The network's code depends on the batch size: {value.name} is fixed to {first.dim_value} "
                "in its graph. Remove the condition on the batch size."
            )


def _strip_metadata(file: onnx.ModelProto) -> None:
    """Remove the exporter's metadata of every node and value: stack traces with paths, a third of the file."""
    graph = file.graph
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, file):
        del item.metadata_props[:]
        item.doc_string = ""


def with_manifest(file: onnx.ModelProto, manifest: Manifest) -> bytes:
    """ONNX model and its manifest -> the bytes of the file."""
    del file.metadata_props[:]
    file.metadata_props.add(key=KEY, value=manifest.to_json())
    return file.SerializeToString()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
