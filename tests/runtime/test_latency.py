"""Latency of exported files and of others: inputs, ratios, and files whose input is not known."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from featherpose.cli import featherpose
from featherpose.errors import InputError, ModelError
from featherpose.runtime.latency import ROUNDS, measure
from featherpose.runtime.session import open_plain
from featherpose.size import Size
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

onnx = pytest.importorskip("onnx")


def plain(path: Path, shape: list[int | str]) -> Path:
    """A file without a manifest that doubles its input."""
    helper = onnx.helper
    sides = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", sides[:1], sides[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_plain_file_says_its_inputs_and_runs(tmp_path: Path) -> None:
    model = open_plain(plain(tmp_path / "p.onnx", ["batch", 3]))
    assert model.inputs == [("x", "float32", ["batch", 3])]
    assert model.metadata == {}
    ones = np.ones((2, 3), np.float32)
    assert np.array_equal(model.run({"x": ones})["y"], 2 * ones)


def test_models_of_every_kind_are_measured_in_turn(tmp_path: Path) -> None:
    files = [
        tiny_model(tmp_path / "pose.onnx"),
        tiny_image_model(tmp_path / "detector.onnx", tiny_image_manifest("detector", long_side=96)),
        plain(tmp_path / "plain.onnx", ["batch", 3, 32, 32]),
    ]
    found = measure([(file.stem, file) for file in files], seconds=0)
    assert [(result.model, result.kind, result.input) for result in found] == [
        ("pose", "pose", "1x64x48x3"),
        ("detector", "detector", "1x96x96x3"),
        ("plain", "", "1x3x32x32"),
    ]
    assert found[0].ratio == 1
    for result in found:
        assert result.runs == 2 * ROUNDS
        assert 0 < result.low_ms <= result.ms <= result.high_ms


def test_open_sides_need_a_size(tmp_path: Path) -> None:
    file = plain(tmp_path / "p.onnx", [1, 3, "height", "width"])
    with pytest.raises(InputError, match=r"any size .* such as --input-size 256x192"):
        measure([("p", file)], seconds=0)
    (result,) = measure([("p", file)], seconds=0, input_size=Size(height=64, width=32))
    assert result.input == "1x3x64x32"


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 100)
    with pytest.raises(ModelError, match="no such file"):
        measure([("a", tmp_path / "a.onnx")])
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        measure([("noise", tmp_path / "noise.onnx")])
    with pytest.raises(InputError, match="no model to measure"):
        measure([])


def test_command_prints_one_line_per_model(tmp_path: Path) -> None:
    words = ["benchmark", "latency", str(tiny_model(tmp_path / "pose.onnx")), "--seconds", "0"]
    printed = CliRunner().invoke(featherpose, words, catch_exceptions=False).stdout
    assert "pose.onnx" in printed
    assert "One input on 1 thread" in printed
    (line,) = json.loads(CliRunner().invoke(featherpose, [*words, "--json"], catch_exceptions=False).stdout)
    assert line["kind"] == "pose"
