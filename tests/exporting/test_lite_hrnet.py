"""Lite-HRNet as engines run it: equal to the trained network, and without changes of the engine's layout."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime
from torch import nn

from featherpose.exporting.lite_hrnet import for_engines
from featherpose.exporting.onnx import to_onnx
from featherpose.networks import create_network

pytestmark = pytest.mark.torch


def network(name: str, **options: Any) -> nn.Module:
    """A network with random weights, and norms that have seen data: otherwise values grow from layer to layer."""
    torch.manual_seed(0)
    built = create_network(name, 5, **options).train()
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(2):
            built(torch.randn(4, 3, 64, 64))
    return built.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lite_hrnet_18", {}),
        ("lite_hrnet_18", {"fuse": "halved", "width": 22}),
        ("cbam_lite_hrnet_18", {"head": "iterative", "open_gates": True}),
        ("cbam_lite_hrnet_18", {"head": "concat", "width": 16}),
    ],
)
def test_same_heatmaps(name: str, options: dict[str, Any]) -> None:
    trained = network(name, **options)
    fast = for_engines(trained)
    assert fast is not trained
    x = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        wanted, found = trained(x), fast(x)
    assert (found - wanted).abs().max() < 5e-4 * wanted.std()


@pytest.mark.parametrize(
    ("name", "options"),
    [("naive_lite_hrnet_18", {}), ("cbam_lite_hrnet_18", {"attention_at": "block"}), ("inverted_pose", {"width": 0.1})],
)
def test_other_networks_are_left_as_they_are(name: str, options: dict[str, Any]) -> None:
    built = create_network(name, 5, **options).eval()
    assert for_engines(built) is built


@pytest.mark.slow
def test_engine_keeps_its_layout(tmp_path: Path) -> None:
    """Before, there were 354 changes of layout in Lite-HRNet-18."""
    file = to_onnx(for_engines(network("lite_hrnet_18")), torch.randn(2, 3, 96, 64), "x", ["heatmaps"])
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("N", 1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(None, {"x": np.zeros((1, 3, 96, 64), np.float32)})
    assert outputs[0].shape == (1, 5, 24, 16)
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert operators["ReorderInput"] + operators["ReorderOutput"] <= 10
