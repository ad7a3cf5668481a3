"""ImageNet checkpoints of other projects, as synthetic files with their names: tensors loaded and ignored."""

from __future__ import annotations

import os

import pytest
import safetensors.torch

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network, hrnet
from featherpose.networks.checkpoints import load_pretrained
from featherpose.networks.mobilenet_v1 import STAGES
from featherpose.networks.mobilenet_v3 import LARGE, SMALL

pytestmark = pytest.mark.torch


def conv(name, out_channels, in_channels, kernel, bias=False):
    yield f"{name}.weight", (out_channels, in_channels, kernel, kernel)
    if bias:
        yield f"{name}.bias", (out_channels,)


def norm(name, channels):
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def unit(name, out_channels, in_channels, kernel=1):
    """torchvision's sequence of convolution, norm and activation."""
    yield from conv(f"{name}.0", out_channels, in_channels, kernel)
    yield from norm(f"{name}.1", out_channels)


def linear(name, out_channels, in_channels, bias=True):
    yield f"{name}.weight", (out_channels, in_channels)
    if bias:
        yield f"{name}.bias", (out_channels,)


def resnet50():
    yield from conv("conv1", 64, 3, 7)
    yield from norm("bn1", 64)
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        channels = 32 * 2**stage
        for i in range(blocks):
            block = f"layer{stage}.{i}"
            sizes = ((channels, inputs, 1), (channels, channels, 3), (4 * channels, channels, 1))
            for number, size in enumerate(sizes, 1):
                yield from conv(f"{block}.conv{number}", *size)
                yield from norm(f"{block}.bn{number}", size[0])
            if i == 0:
                yield from unit(f"{block}.downsample", 4 * channels, inputs)
            inputs = 4 * channels
    yield from linear("fc", 1000, 2048)


def mobilenet_v2():
    yield from unit("features.0", 32, 3, 3)
    place, inputs = 1, 32
    rows = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for expansion, channels, blocks in rows:
        for _ in range(blocks):
            hidden, block = inputs * expansion, f"features.{place}.conv"
            units = [(hidden, inputs, 1)] * (expansion > 1) + [(hidden, 1, 3)]
            for number, size in enumerate(units):
                yield from unit(f"{block}.{number}", *size)
            yield from conv(f"{block}.{len(units)}", channels, hidden, 1)
            yield from norm(f"{block}.{len(units) + 1}", channels)
            place, inputs = place + 1, channels
    yield from unit("features.18", 1280, 320)
    yield from linear("classifier.1", 1000, 1280)


def mobilenet_v3(rows, hidden):
    yield from unit("features.0", 16, 3, 3)
    inputs = 16
    for place, row in enumerate(rows, 1):
        layers = [(row.hidden, inputs, 1)] * (row.hidden != inputs) + [(row.hidden, 1, row.kernel)]
        for number, size in enumerate(layers):
            yield from unit(f"features.{place}.block.{number}", *size)
        after = len(layers) + row.squeeze
        if row.squeeze:
            squeezed = 24 if row.hidden == 72 else max(8, (row.hidden // 4 + 4) // 8 * 8)
            yield from conv(f"features.{place}.block.{len(layers)}.fc1", squeezed, row.hidden, 1, bias=True)
            yield from conv(f"features.{place}.block.{len(layers)}.fc2", row.hidden, squeezed, 1, bias=True)
        yield from unit(f"features.{place}.block.{after}", row.channels, row.hidden)
        inputs = row.channels
    yield from unit(f"features.{len(rows) + 1}", 6 * inputs, inputs)
    yield from linear("classifier.0", hidden, 6 * inputs)
    yield from linear("classifier.3", 1000, hidden)


def shufflenet_v2():
    yield from unit("conv1", 24, 3, 3)
    inputs = 24
    for stage, channels, units in ((2, 116, 4), (3, 232, 8), (4, 464, 4)):
        for i in range(units):
            half, name = channels // 2, f"stage{stage}.{i}"
            if i == 0:
                yield from conv(f"{name}.branch1.0", inputs, 1, 3)
                yield from norm(f"{name}.branch1.1", inputs)
                yield from conv(f"{name}.branch1.2", half, inputs, 1)
                yield from norm(f"{name}.branch1.3", half)
            for layer, size in ((0, (half, half if i else inputs, 1)), (3, (half, 1, 3)), (5, (half, half, 1))):
                yield from conv(f"{name}.branch2.{layer}", *size)
                yield from norm(f"{name}.branch2.{layer + 1}", half)
            inputs = channels
    yield from unit("conv5", 1024, 464)
    yield from linear("fc", 1000, 1024)


def mobilenet_v1():
    """timm's names."""
    yield from conv("conv_stem", 32, 3, 3)
    yield from norm("bn1", 32)
    inputs = 32
    for stage, (channels, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            name = f"blocks.{stage}.{block}"
            yield from conv(f"{name}.conv_dw", inputs, 1, 3)
            yield from norm(f"{name}.bn1", inputs)
            yield from conv(f"{name}.conv_pw", channels, inputs, 1)
            yield from norm(f"{name}.bn2", channels)
            inputs = channels
    yield from linear("classifier", 1000, 1024)


def swin_t():
    yield from conv("features.0.0", 96, 3, 4, bias=True)
    yield from affine("features.0.2", 96)
    for stage, (depth, heads) in enumerate(((2, 3), (2, 6), (6, 12), (2, 24))):
        channels = 96 * 2**stage
        if stage:
            yield from linear(f"features.{2 * stage}.reduction", channels, 2 * channels, bias=False)
            yield from affine(f"features.{2 * stage}.norm", 2 * channels)
        for i in range(depth):
            name = f"features.{2 * stage + 1}.{i}"
            yield from affine(f"{name}.norm1", channels)
            yield f"{name}.attn.relative_position_bias_table", (169, heads)
            yield f"{name}.attn.relative_position_index", (2401,)
            yield from linear(f"{name}.attn.qkv", 3 * channels, channels)
            yield from linear(f"{name}.attn.proj", channels, channels)
            yield from affine(f"{name}.norm2", channels)
            yield from linear(f"{name}.mlp.0", 4 * channels, channels)
            yield from linear(f"{name}.mlp.3", channels, 4 * channels)
    yield from affine("norm", 768)
    yield from linear("head", 1000, 768)


def affine(name, channels):
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def efficientnet_lite0():
    yield from conv("_conv_stem", 32, 3, 3)
    yield from norm("_bn0", 32)
    place, inputs = 0, 32
    rows = ((1, 16, 3, 1), (6, 24, 3, 2), (6, 40, 5, 2), (6, 80, 3, 3), (6, 112, 5, 3), (6, 192, 5, 4), (6, 320, 3, 1))
    for expansion, channels, kernel, blocks in rows:
        for _ in range(blocks):
            hidden, block = inputs * expansion, f"_blocks.{place}"
            if expansion > 1:
                yield from conv(f"{block}._expand_conv", hidden, inputs, 1)
                yield from norm(f"{block}._bn0", hidden)
            yield from conv(f"{block}._depthwise_conv", hidden, 1, kernel)
            yield from norm(f"{block}._bn1", hidden)
            yield from conv(f"{block}._project_conv", channels, hidden, 1)
            yield from norm(f"{block}._bn2", channels)
            place, inputs = place + 1, channels
    yield from conv("_conv_head", 1280, 320, 1)
    yield from norm("_bn1", 1280)
    yield from linear("_fc", 1000, 1280)


# Tensors that a pose network does not have; for EfficientNet-Lite0 also the last blocks.
CLASSIFIER = ("fc.", "classifier", "head.", "_fc.", "_conv_head.", "_bn1.", "_blocks.14.", "_blocks.15.")
# Network: names and shapes of the checkpoint, and one of its tensor names with ours.
CHECKPOINTS = {
    "simple_baseline_resnet50": (resnet50, "layer3.0.downsample.1.running_mean", "layer3.0.downsample.1.running_mean"),
    "mobilenet_v1": (mobilenet_v1, "blocks.3.4.bn1.bias", "layers.3.4.depthwise.bn.bias"),
    "mobilenet_v2": (mobilenet_v2, "features.9.conv.2.weight", "layer4.2.conv.2.conv.weight"),
    "mobilenet_v3_small": (lambda: mobilenet_v3(SMALL, 1024), "features.1.block.2.1.weight", "1.block.2.bn.weight"),
    "mobilenet_v3_large": (lambda: mobilenet_v3(LARGE, 1280), "features.4.block.2.fc2.bias", "4.block.2.fc2.bias"),
    "shufflenet_v2": (shufflenet_v2, "stage3.5.branch2.6.running_var", "layers.1.5.branch2.2.bn.running_var"),
    "feather_pose": (efficientnet_lite0, "_blocks.8._bn1.bias", "stages.3.3.conv.1.bn.bias"),
    "swin_t": (swin_t, "features.4.reduction.weight", "4.reduction.weight"),
}


def filled_tensors(names):
    """Every tensor filled with a unique number that no initialization has."""
    return {name: torch.full(shape, 9.0 + i) if shape else torch.tensor(9 + i) for i, (name, shape) in enumerate(names)}


def assert_backbone_is_filled(name, path, save):
    names, theirs, ours = CHECKPOINTS[name]
    given = filled_tensors(names())
    save(given, path)
    model = create_network(name, 5)
    initial = {k: v.clone() for k, v in model.keypoint_head.state_dict().items()}
    report = load_pretrained(model, path, list("abcde"))
    assert sorted(report.loaded) == sorted(f"backbone.{n}" for n in model.backbone.state_dict())
    assert report.fresh == [f"keypoint_head.{n}" for n in initial]
    classifier = {n for n in given if n.startswith(CLASSIFIER)}
    assert classifier
    assert {n for n in report.ignored if not n.endswith("position_index")} == classifier
    assert torch.equal(model.backbone.state_dict()[ours], given[theirs])
    assert all(torch.equal(v, initial[k]) for k, v in model.keypoint_head.state_dict().items())
    return model


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_backbone_is_loaded_classifier_is_ignored(name, tmp_path):
    """Both list the layers starting at the input: a misplaced tensor would break the order of the numbers."""
    model = assert_backbone_is_filled(name, tmp_path / "imagenet.pth", torch.save)
    numbers = [tensor.flatten()[0].item() for tensor in model.backbone.state_dict().values()]
    assert numbers == sorted(set(numbers))


def test_safetensors_checkpoint_is_loaded(tmp_path):
    """Its tensors are in alphabetical order."""
    assert_backbone_is_filled("mobilenet_v3_small", tmp_path / "imagenet.safetensors", safetensors.torch.save_file)


def test_official_hrnet_checkpoint_fills_backbone(tmp_path, monkeypatch):
    """It also contains the multi-resolution head of the classification network."""
    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 1))
    monkeypatch.setattr(hrnet, "BLOCKS_PER_MODULE", 1)
    model = create_network("hrnet_w32", 5)
    given = {k: v + 1 for k, v in model.backbone.state_dict().items()}
    extra = {
        "stage4.2.fuse_layers.1.0.0.0.weight": torch.ones(64, 32, 3, 3),
        "incre_modules.0.0.conv1.weight": torch.ones(1),
    }
    head = {"final_layer.0.weight": torch.ones(2048, 1024, 1, 1), "classifier.weight": torch.ones(1000, 2048)}
    torch.save({**given, **extra, **head}, tmp_path / "hrnetv2_w32.pth")
    report = load_pretrained(model, tmp_path / "hrnetv2_w32.pth", list("abcde"))
    assert report.ignored == [*extra, *head]
    assert all(torch.equal(v, given[k]) for k, v in model.backbone.state_dict().items())


def test_mmpretrain_names_match_ours(tmp_path):
    model = create_network("shufflenet_v1", 5)
    given = {f"backbone.{k}": v + 1 for k, v in model.backbone.state_dict().items()}
    torch.save({"state_dict": {**given, "head.fc.weight": torch.ones(1000, 960)}}, tmp_path / "a.pth")
    report = load_pretrained(model, tmp_path / "a.pth", list("abcde"))
    assert (report.loaded, report.ignored) == (list(given), ["head.fc.weight"])


@pytest.mark.parametrize(
    ("name", "other"), [("mobilenet_v3_large", "mobilenet_v3_small"), ("mobilenet_v2", "mobilenet_v1")]
)
def test_checkpoint_of_other_network_is_refused(name, other, tmp_path):
    torch.save(filled_tensors(CHECKPOINTS[other][0]()), tmp_path / "other.pth")
    model = create_network(name, 5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"other\.pth belong to another network"):
        load_pretrained(model, tmp_path / "other.pth", list("abcde"))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class CreatesFolder:
    """A pickle that creates a folder when it is loaded without restrictions."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickle_that_runs_code_is_not_executed(tmp_path):
    torch.save({"conv1.weight": torch.ones(1), "hook": CreatesFolder(tmp_path / "ran")}, tmp_path / "resnet50.pth")
    model = create_network("shufflenet_v1", 5)
    with pytest.raises(
        ModelError, match=r"resnet50\.pth is refused: it contains \w+\.mkdir, which is not a tensor"
    ) as caught:
        load_pretrained(model, tmp_path / "resnet50.pth", list("abcde"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "resnet50.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the unrestricted load should run the code"
