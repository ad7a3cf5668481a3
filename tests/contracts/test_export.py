"""Every kind of network is exported to one file that passes the parity check, for any number of crops."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from featherpose.exporting import export
from featherpose.exporting.crops import image_crops, synthetic
from featherpose.manifest import PoseManifest, read_manifest
from featherpose.networks import create_network, stride_of
from featherpose.networks.layers import BasicBlock, Bottleneck
from featherpose.networks.preprocess import normalize
from featherpose.recipes.shipped import RECIPES
from featherpose.size import Size
from featherpose.skeleton import COCO17
from tests.families import TESTED, shorten

pytestmark = pytest.mark.torch

SIZE = Size(height=96, width=64)
IN_ROWS = {"lite_hrnet_18", "hrnet_w32", "mobilenet_v2", "tokenpose_l_d24"}
"""Exported, with the parity check, and evaluated as rows of the paper's tables (test_rows.py)."""
# The full graph of the paper's network; others of its depth, and those built for a larger input, are shortened.
DEEP = {"naive_lite_hrnet_18", "tokenpose_t", "tokenpose_s_v2"}
FULL = [name for name in TESTED if name not in DEEP | IN_ROWS]


def make_manifest(name, size):
    return PoseManifest(
        network=name, skeleton=COCO17, input_size=size, codec={"name": "msra", "stride": stride_of(name)}
    )


def calibrated(manifest, **options):
    """The network with running statistics of some crops, and norm weights of 0.25, or 1 on the shortcuts.

    Unlike in trained networks, rounding errors grow from layer to layer in untrained ones: to 1e-4 of the heatmaps'
    range, in ResNet-152 to 5e-4, between single and double precision in torch.
    """
    torch.manual_seed(0)
    model = create_network(manifest.network, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.constant_(module.weight, 0.25)
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck) and isinstance(module.downsample, torch.nn.Sequential):
            torch.nn.init.ones_(module.downsample[1].weight)
    crops = np.stack([*image_crops(manifest).values(), *synthetic(manifest.input_size).values()])
    with torch.no_grad():
        model.train()(normalize(torch.from_numpy(crops)))
    return model.eval()


def accepts_any_batch_size(path, size):
    engine = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    crops = np.random.default_rng(1).integers(0, 256, (5, *size.shape, 3), np.uint8)
    together = engine.run(["heatmaps"], {"crops": crops})[0]
    alone = np.concatenate([engine.run(["heatmaps"], {"crops": crop[None]})[0] for crop in crops])
    return bool(np.abs(together - alone).max() <= 1e-4 * np.ptp(alone))


def check(name, size, path, crops=None, **options):
    """Export a network, which includes the parity check; the file says so and accepts any number of crops."""
    manifest = make_manifest(name, size)
    exported = export(calibrated(manifest, **options), path, manifest, crops=crops)
    assert read_manifest(path) == exported
    assert len(exported.parity["jumps"]) < 0.05 * exported.parity["keypoints_compared"]
    assert accepts_any_batch_size(path, size)


def test_networks_of_rows_are_rows():
    assert {recipe.network for name, recipe in RECIPES.items() if name.startswith("paper-")} >= IN_ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_network_passes_the_parity_check(name, tmp_path):
    check(name, SIZE, tmp_path / f"{name}.onnx")


def shortened(name, **options):
    return pytest.param(name, options, id="-".join([name, *map(str, options.values())]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        shortened("cbam_lite_hrnet_18", width=8),
        shortened("naive_lite_hrnet_18", width=8),
        shortened("hrnet_w32", attention="cbam"),
        shortened("tokenpose_t", input_size=SIZE),
        shortened("tokenpose_s_v2", input_size=SIZE),
    ],
)
def test_shortened_network_passes_the_check(name, options, tmp_path, monkeypatch):
    """A layer is exported alike each time it occurs, and the graph of a deep network takes a minute."""
    shorten(monkeypatch)
    path = tmp_path / f"{name}.onnx"
    check(name, SIZE, path, crops={}, **options)
    nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert nodes["BatchNormalization"] == 0
    if name == "cbam_lite_hrnet_18":
        # One for the crops, four in the decoder and the gates: maps keep one layout throughout the network.
        assert nodes["Transpose"] <= 5
