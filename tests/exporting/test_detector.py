"""The exported detector: one file for every size, the same boxes as torch and numpy, or no file."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from featherpose.errors import InputError, ModelError
from featherpose.exporting import detector as exporting
from featherpose.exporting import export_weights
from featherpose.exporting import weights as weights_file
from featherpose.exporting.detector import Detections, DetectorGraph, differences_from_all, wrong_nms
from featherpose.manifest import DetectorManifest
from featherpose.networks import create_detector
from featherpose.networks.checkpoints import save_weights, to_metadata
from featherpose.networks.feather_detect import DetectorNetwork
from featherpose.nms import detector_nms
from featherpose.runtime.session import Session
from featherpose.skeleton import COCO17

MANIFEST = DetectorManifest(
    network="feather_detect", options={"neck_channels": 16}, skeleton=COCO17, long_side=64, conf=0.4
)


def detector() -> DetectorNetwork:
    """Random weights whose scores and boxes vary from point to point."""
    torch.manual_seed(0)
    network = create_detector("feather_detect", neck_channels=16).eval()
    assert isinstance(network, DetectorNetwork)
    with torch.no_grad():
        network.box_head.quality.weight.normal_(0, 2)
        network.box_head.distances.weight.normal_(0, 0.5)
    return network


@pytest.fixture(scope="module")
def file() -> "onnx.ModelProto":
    """The converted graph: converting takes most of an export's time."""
    return exporting.to_onnx(DetectorGraph(detector()).eval())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, file: "onnx.ModelProto") -> tuple[Path, DetectorManifest]:
    folder = tmp_path_factory.mktemp("detector")
    save_weights(detector(), folder / "best.safetensors", to_metadata(MANIFEST, {"box_ap": 12.5}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "to_onnx", lambda graph: copy.deepcopy(file))
        path, manifest = export_weights(folder / "best.safetensors")
    assert isinstance(manifest, DetectorManifest)
    return path, manifest


@pytest.mark.slow  # converting the graph takes twenty seconds
def test_export_writes_the_description_of_the_weights(exported: tuple[Path, DetectorManifest]) -> None:
    path, manifest = exported
    assert path.name == "best.onnx"
    assert (manifest.long_side, manifest.conf, manifest.skeleton) == (64, 0.4, COCO17)
    assert manifest.accuracy == ({"data": "validation set of the training data", "box_ap": 12.5},)
    assert manifest.parity["boxes_compared"] > 20
    assert Session.open(path, "cpu").manifest == manifest


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (160, 64)])
def test_one_file_serves_every_size(exported: tuple[Path, DetectorManifest], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    boxes, scores = DetectorGraph(detector()).eval().run(pixels)
    kept = detector_nms(boxes, scores)
    found = Session.open(exported[0], "cpu").run(pixels)
    assert len(kept)
    np.testing.assert_allclose(found["boxes_xyxy"], boxes[kept], atol=0.05)
    np.testing.assert_allclose(found["scores"], scores[kept], atol=1e-3)


@pytest.mark.slow
def test_file_that_differs_is_not_written(
    file: "onnx.ModelProto", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "to_onnx", lambda graph: changed(copy.deepcopy(file)))
    with pytest.raises(ModelError, match=r"Parity check failed on .*: boxes differ by"):
        exporting.export_detector(detector(), tmp_path / "d.onnx", MANIFEST)
    assert not list(tmp_path.iterdir())


def changed(file: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model with the biases of all distances a little larger."""
    for tensor in file.graph.initializer:
        if tensor.name.endswith("distances.bias"):
            values = onnx.numpy_helper.to_array(tensor) + 0.1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return file


@pytest.mark.slow
def test_options_of_pose_networks_are_refused(exported: tuple[Path, DetectorManifest]) -> None:
    weights = exported[0].with_suffix(".safetensors")
    with pytest.raises(InputError, match="is a person detector, exported without crops, skeleton"):
        export_weights(weights, crops="folder", skeleton="coco17")


@pytest.mark.parametrize(
    ("results", "conf", "expected"),
    [
        pytest.param({}, None, 0.4, id="that of the description"),
        pytest.param({"conf": 0.55}, None, 0.55, id="that of the validation result"),
        pytest.param({"conf": 0.55}, 0.0, 0.0, id="given"),
    ],
)
def test_conf_of_the_exported_file(
    tmp_path: Path, results: dict[str, float], conf: float | None, expected: float
) -> None:
    save_weights(detector(), tmp_path / "best.safetensors", to_metadata(MANIFEST, results))
    assert weights_file.open_detector(tmp_path / "best.safetensors", conf)[1].conf == expected


@pytest.mark.parametrize(
    ("conf", "error", "message"),
    [
        pytest.param(1.5, ModelError, "conf is 1.5, wanted a score from 0 to 1", id="no score"),
        pytest.param("test", InputError, "conf is 'test', wanted a score from 0 to 1, or 'validation'", id="word"),
        pytest.param("validation", ModelError, "does not record its recipe", id="no recipe"),
    ],
)
def test_bad_conf_is_refused(tmp_path: Path, conf: float | str, error: type[Exception], message: str) -> None:
    save_weights(detector(), tmp_path / "best.safetensors", to_metadata(replace(MANIFEST, recipe={}), {}))
    with pytest.raises(error, match=message):
        weights_file.open_detector(tmp_path / "best.safetensors", conf)


A = [0.0, 0.0, 10.0, 20.0]
LIKE_A = [0.0, 0.0, 10.0, 19.0]
B = [30.0, 0.0, 40.0, 20.0]


def detections(*rows: tuple[list[float], float]) -> Detections:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return boxes, np.array([score for _, score in rows], np.float32)


ALL = detections((A, 0.9), (LIKE_A, 0.8), (B, 0.5), (B, 0.005))


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (detections((A, 0.9), (B, 0.5)), ""),
        (detections((B, 0.5), (A, 0.9)), ""),
        (detections((A, 0.9)), "1 detections are missing"),
        (detections(), "3 detections are missing"),
        (detections((LIKE_A, 0.8), (B, 0.5)), "1 detections are missing"),
        (detections((A, 0.9), (LIKE_A, 0.8), (B, 0.5)), "two detections have an IoU of 0.950"),
    ],
    ids=["right", "other order", "missing", "nothing", "worse one kept", "duplicate kept"],
)
def test_wrong_nms_is_noticed(found: Detections, problem: str) -> None:
    assert wrong_nms(ALL, found) == problem


@pytest.mark.parametrize(
    ("found", "boxes", "scores"),
    [
        (detections(), 0, 0),
        (detections((B, 0.5)), 0, 0),
        (detections((B, 0.6)), 0, 0.1),
        (detections(([30.0, 0.0, 40.0, 21.5], 0.5)), 1.5, 0),
    ],
    ids=["nothing", "equal", "score", "box"],
)
def test_differences_are_from_the_nearest_box(found: Detections, boxes: float, scores: float) -> None:
    differences = differences_from_all(ALL, found)
    assert (differences["boxes"], differences["scores"]) == pytest.approx((boxes, scores), abs=1e-6)
