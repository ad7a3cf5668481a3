"""Every network in the list is exported to one file that passes the parity check, for any number of crops."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from featherpose.exporting import export
from featherpose.exporting.crops import image_crops, synthetic
from featherpose.manifest import PoseManifest, read_manifest
from featherpose.networks import NETWORKS, create_network, hrnet, lite_hrnet, stride_of, tokenpose
from featherpose.networks.layers import BasicBlock, Bottleneck
from featherpose.networks.preprocess import normalize
from featherpose.size import Size
from featherpose.skeleton import COCO17

pytestmark = pytest.mark.torch

SIZE = Size(height=96, width=64)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_passes_the_parity_check(name, tmp_path):
    size, path = create_network(name).fixed_size or Size(height=128, width=96), tmp_path / f"{name}.onnx"
    manifest = make_manifest(name, size)
    exported = export(calibrated(manifest), path, manifest)
    assert read_manifest(path) == exported
    assert len(exported.parity["jumps"]) < 0.05 * exported.parity["keypoints_compared"]
    assert accepts_any_batch_size(path, size)


def test_shortened_cbam_lite_hrnet_is_exported(tmp_path, monkeypatch):
    """A fast version of the same test: every kind of layer of cbam_lite_hrnet_18 once."""
    monkeypatch.setitem(lite_hrnet.MODULES, 18, (1, 1, 1))
    manifest, path = make_manifest("cbam_lite_hrnet_18", SIZE), tmp_path / "short.onnx"
    export(calibrated(manifest, width=8), path, manifest, crops={})
    assert accepts_any_batch_size(path, SIZE)
    nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
    # One for the crops, four in the decoder and the gates: maps keep one layout throughout the network.
    assert nodes["Transpose"] <= 5
    assert nodes["BatchNormalization"] == 0


@pytest.fixture
def short_hrnet(monkeypatch):
    """Every kind of layer of HRNet once."""
    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 1))
    monkeypatch.setattr(hrnet, "BLOCKS_PER_MODULE", 1)


@pytest.mark.usefixtures("short_hrnet")
def test_shortened_attention_hrnet_is_exported(tmp_path):
    manifest, path = make_manifest("hrnet_w32", SIZE), tmp_path / "short.onnx"
    export(calibrated(manifest, attention="cbam"), path, manifest, crops={})
    assert accepts_any_batch_size(path, SIZE)


@pytest.mark.usefixtures("short_hrnet")
def test_shortened_tokenpose_is_exported(tmp_path, monkeypatch):
    whole = tokenpose.Transformer
    monkeypatch.setattr(tokenpose, "Transformer", lambda depth, **options: whole(1, **options))
    manifest, path = make_manifest("tokenpose_l_d24", SIZE), tmp_path / "short.onnx"
    export(calibrated(manifest, input_size=SIZE), path, manifest, crops={})
    assert accepts_any_batch_size(path, SIZE)
