"""A network that exports in seconds, with operators that are hard to export: pooling, resizing, batch norm."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import nn

from featherpose.exporting import export
from featherpose.manifest import PoseManifest
from featherpose.size import Size
from featherpose.skeleton import COCO17

SIZE = Size(height=64, width=48)


class Tiny(nn.Module):
    """Normalized crops (N, 3, H, W) -> heatmaps (N, K, H/4, W/4)."""

    def __init__(self, num_keypoints: int = 17, *, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.again = nn.Conv2d(width, width, 3, 2, 1)
        self.final_layer = nn.Conv2d(width, num_keypoints, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.norm(self.down(x)).relu())
        gate = nn.functional.avg_pool2d(x, 4).sigmoid()
        return self.final_layer(x * nn.functional.interpolate(gate, scale_factor=4.0, mode="nearest"))


def tiny(seed: int = 0, num_keypoints: int = 17) -> Tiny:
    """A Tiny with seeded weights and running statistics that differ from 0 and 1."""
    torch.manual_seed(seed)
    model = Tiny(num_keypoints)
    with torch.no_grad():
        model.norm.running_mean.uniform_(-0.5, 0.5)
        model.norm.running_var.uniform_(0.5, 2)
    return model


def manifest(**changes) -> PoseManifest:
    facts = {"network": "tiny", "skeleton": COCO17, "input_size": SIZE, "codec": {"name": "msra", "sigma": 1.5}}
    return PoseManifest(**facts | changes)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Path of an exported file, the manifest that `export` returned and the network, which was in training mode."""
    path, model = tmp_path_factory.mktemp("exported") / "tiny.onnx", tiny().train()
    return path, export(model, path, manifest(training={"samples": {"coco": 3}})), model
