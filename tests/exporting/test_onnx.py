"""The exported file contains its manifest, has a dynamic batch size, and is not written if it is wrong."""

import copy
import importlib

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import InputError, ModelError
from featherpose.exporting import export
from featherpose.exporting.crops import synthetic
from featherpose.exporting.onnx import Graph
from featherpose.manifest import read_manifest
from featherpose.skeleton import LSP14
from tests.exporting.conftest import SIZE, manifest, tiny

pytestmark = pytest.mark.torch

MODULE = importlib.import_module("featherpose.exporting.onnx")


def crops(n, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (n, *SIZE.shape, 3), np.uint8)


def test_exported_file_contains_manifest(exported):
    path, returned, _ = exported
    assert read_manifest(path) == returned
    assert (returned.network, returned.training) == ("tiny", {"samples": {"coco": 3}})
    parity = returned.parity
    assert {"people.jpg", "noise", "black", "white"} < set(parity["crops"])
    assert parity["heatmaps"] < parity["allowed"]["heatmaps"] == 1e-4
    assert parity["keypoints_compared"] == 17 * len(parity["crops"])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_batch_size_is_dynamic(exported, n):
    engine = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    got = engine.run(["keypoints", "scores", "heatmaps"], {"crops": crops(n)})
    assert [array.shape for array in got] == [(n, 17, 2), (n, 17), (n, 17, 16, 12)]
    for array, wanted in zip(got, Graph(tiny().eval(), manifest()).run(crops(n)), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-5)


def test_graph_inputs_and_outputs(exported):
    graph = onnx.load(exported[0]).graph
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "crops": ["N", 64, 48, 3],
        "keypoints": ["N", 17, 2],
        "scores": ["N", 17],
        "heatmaps": ["N", 17, 16, 12],
    }
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_exported_file_has_no_source_paths(exported):
    content = exported[0].read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content
    assert len(onnx.load(exported[0]).metadata_props) == 1


def test_opset_keeps_fast_pooling_layout(exported):
    assert [opset.version for opset in onnx.load(exported[0]).opset_import] == [18]


def test_export_does_not_change_network(exported):
    model = exported[2]
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    before = tiny().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def patch_export(monkeypatch, modify):
    """Patch the export so that the exported graph differs from the network it is compared with."""
    write = MODULE.to_onnx

    def modified(module, *rest):
        module = copy.deepcopy(module)
        modify(module)
        return write(module, *rest)

    monkeypatch.setattr(MODULE, "to_onnx", modified)


def change_weight(graph):
    graph.network.final_layer.bias.data[3] += 0.01


def change_cell_size(graph):
    graph.decode.cell *= 1.0625


def test_wrong_decoder_writes_no_file(tmp_path, monkeypatch):
    patch_export(monkeypatch, change_cell_size)
    with pytest.raises(ModelError, match=r"keypoints differ by .* px"):
        export(tiny(), tmp_path / "tiny.onnx", manifest(), crops={})
    assert list(tmp_path.iterdir()) == []


def test_wrong_weight_keeps_existing_file(tmp_path, monkeypatch):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"older")
    patch_export(monkeypatch, change_weight)
    with pytest.raises(ModelError, match=r"heatmaps differ by .* at left_ear on crop .* No file was written"):
        export(tiny(), path, manifest(), crops={})
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("tiny.onnx", b"older")]


BAD = {
    "name": ({"path": "tiny.pt"}, InputError, r"must be named \*.onnx, for example tiny.onnx"),
    "folder": ({"path": "nowhere/tiny.onnx"}, InputError, "is not a folder"),
    "keypoints_compared": (
        {"manifest": manifest(skeleton=LSP14)},
        ModelError,
        r"heatmaps \(17, 16, 12\); .*'lsp14'.* \(14, 16, 12\)",
    ),
    "stride": ({"manifest": manifest(codec={"name": "msra", "stride": 8})}, ModelError, r"need \(17, 8, 6\)"),
    "crop size": (
        {"crops": {"a": np.zeros((9, 9, 3), np.uint8)}},
        InputError,
        r"Crop 'a' is uint8 \(9, 9, 3\)",
    ),
    "crop type": ({"crops": {"a": np.zeros((64, 48, 3))}}, InputError, r"Crop 'a' is float64"),
}


@pytest.mark.parametrize(("changes", "error", "message"), BAD.values(), ids=BAD)
def test_invalid_input_raises(tmp_path, changes, error, message):
    given = {"path": "tiny.onnx", "manifest": manifest(), "crops": synthetic(SIZE)} | changes
    with pytest.raises(error, match=message):
        export(tiny(), tmp_path / given["path"], given["manifest"], crops=given["crops"])
    assert list(tmp_path.iterdir()) == []


class Fixed(torch.nn.Module):
    """A network whose graph depends on the batch size: it differs for two crops."""

    def forward(self, x):
        x = torch.nn.functional.avg_pool2d(x, 4)[:, [0] * 17]
        return x.reshape(2, 17, 16, 12) if len(x) == 2 else x


def test_fixed_batch_size_network_raises(tmp_path):
    with pytest.raises(ModelError, match="depends on the batch size: crops is fixed to 2"):
        export(Fixed(), tmp_path / "fixed.onnx", manifest(), crops={})
    assert list(tmp_path.iterdir()) == []


def test_export_prints_and_logs_nothing(tmp_path, capfd, caplog):
    caplog.set_level("WARNING")
    export(tiny(), tmp_path / "tiny.onnx", manifest(), crops={})
    assert (*capfd.readouterr(), caplog.messages) == ("", "", [])
