"""RepPose: merging of branches, counts, widths, export."""

from __future__ import annotations

import copy
from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network
from featherpose.networks.attention import ATTENTIONS
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.networks.rep_pose import RepUnit, merged
from featherpose.size import Size

pytestmark = pytest.mark.torch

# options, parameters in training and when merged, multiply-accumulates of one 256x192 crop when merged
COUNTS = [
    ({}, 1_119_079, 1_006_471, 199_668_960),
    ({"attention": "none"}, 1_113_313, 1_000_705, 199_259_136),
    ({"width": 0.5}, 287_244, 257_820, 62_008_224),
    ({"width": 0.75}, 737_635, 662_467, 145_091_424),
    ({"width": 1.5}, 2_522_706, 2_272_386, 462_552_480),
]


def crops(n, height=64, width=96):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(n))


def trained(num_keypoints=5, **options):
    """A network after three steps, so that no norm has its initial values."""
    torch.manual_seed(0)
    model = create_network("rep_pose", num_keypoints, width=0.5, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (model(crops(4)) - 0.5).square().mean().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("attention", ["none", "cbam"])
def test_merged_network_gives_the_same_heatmaps(attention):
    model = trained(attention=attention)
    x = crops(2, 96, 64)
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(merged(model)(x), before, rtol=0, atol=1e-5 * before.std().item())
        exact, x = copy.deepcopy(model).double(), x.double()
        torch.testing.assert_close(merged(exact)(x), exact(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "stride"), [(16, 1), (32, 1), (16, 2), (32, 2)])
def test_merged_unit_contains_every_branch(channels, stride):
    unit = RepUnit(16, channels, stride).double()
    branches = [m for m in unit.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(branches) == (3 if (channels, stride) == (16, 1) else 2)
    for norm in branches:
        for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            values.uniform_(0.5, 2)
    x = torch.randn(2, 16, 10, 12, dtype=torch.float64)
    merge, wanted = unit.eval().merged(), unit(x)
    torch.testing.assert_close(merge(x), wanted, rtol=0, atol=1e-12)
    for norm in branches:
        norm.bias.data += 0.1
        assert (unit(x) - merge(x)).abs().max() > 0.05
        norm.bias.data -= 0.1


def test_merging_copies_and_removes_all_branches():
    model = create_network("rep_pose", 5, width=0.5).train()
    before = copy.deepcopy(model.state_dict())
    plain = model.for_export()
    assert model.training and not plain.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    kinds = Counter(type(m) for m in plain.backbone.modules())
    assert kinds[torch.nn.Conv2d] == kinds[torch.nn.ReLU] == 12
    assert (kinds[RepUnit], kinds[torch.nn.BatchNorm2d]) == (0, 1)  # the stem's


@pytest.mark.parametrize(("options", "parameters", "left", "macs"), COUNTS)
def test_parameter_and_mac_counts(options, parameters, left, macs):
    with torch.device("meta"):
        model = create_network("rep_pose", **options)
        plain = model.for_export()
    counted = count_parameters(model), count_parameters(plain), count_macs(plain, Size(height=256, width=192))
    assert counted == (parameters, left, macs)


@pytest.mark.parametrize("width", [0.01, 0.5, 0.75, 1, 1.3, 1.5])
def test_channels_are_multiples_of_16(width):
    with torch.device("meta"):
        model = create_network("rep_pose", width=width)
    maps = [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    gates = [n for n, _ in model.named_modules() if n.endswith("spatial.conv")]
    assert sum(c % 16 != 0 for c in maps) == len(gates) + 1  # and the heatmaps


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_attention_is_at_every_resolution(attention):
    model = create_network("rep_pose", 5, width=0.5, attention=attention).eval()
    sizes = []
    for gate in model.keypoint_head.attention:
        gate.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[-2:])))
    with torch.no_grad():
        assert model(crops(1)).shape == (1, 5, 16, 24)
    assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_invalid_width_is_refused(width):
    with pytest.raises(ModelError, match=r"width is .*; it scales the channels and must be finite and above 0, for "):
        create_network("rep_pose", width=width)


@pytest.fixture
def manifest():
    pytest.importorskip("onnx")
    from featherpose.manifest import PoseManifest
    from featherpose.skeleton import COCO17

    return PoseManifest(
        network="rep_pose", skeleton=COCO17, input_size=Size(height=96, width=64), codec={"name": "msra"}
    )


@pytest.mark.slow
def test_export_merges_the_branches(manifest, tmp_path):
    import onnx

    from featherpose.exporting import export

    exported = export(trained(17, attention="none"), tmp_path / "a.onnx", manifest, crops={})
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node)
    assert kinds["Conv"] == 12 + 4 + 3 * 2 + 1  # layers, laterals, smoothing, heatmaps
    assert kinds["BatchNormalization"] == 0
    assert exported.parity["heatmaps"] < 1e-4


@pytest.mark.slow
def test_wrong_merge_fails_the_parity_check(manifest, tmp_path, monkeypatch):
    from featherpose.exporting import export

    model = trained(17, attention="none")
    wrong = merged(model)
    wrong.backbone.stages[1][0][0].bias.data += 0.1
    monkeypatch.setattr(model, "for_export", lambda: wrong)
    with pytest.raises(ModelError, match="heatmaps differ"):
        export(model, tmp_path / "a.onnx", manifest, crops={})
    assert list(tmp_path.iterdir()) == []
