"""Metadata of a weights file, options that override it, and one-line errors for missing or wrong input."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from click.testing import CliRunner

from featherpose import networks
from featherpose.cli import featherpose
from featherpose.errors import FeatherposeError
from featherpose.exporting import open_weights
from featherpose.manifest import read_manifest
from featherpose.networks.checkpoints import save_weights
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14
from tests.exporting.conftest import SIZE, Tiny, tiny

pytestmark = pytest.mark.torch

FACTS = {
    "version": 2,
    "network": "tiny",
    "options": {"width": 8},
    "num_keypoints": 17,
    "skeleton": COCO17.to_dict(),
    "input_size": SIZE.to_dict(),
    "codec": {"name": "msra", "stride": 4, "sigma": 1.5, "unbiased": True},
    "recipe": {"network": "tiny", "seed": 7},
    "training": {"samples": {"coco": 3}, "terms": ["ask"]},
    "results": {"step": 10, "AP": 0.5},
}


@pytest.fixture(autouse=True)
def tiny_is_a_network(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "tiny", Tiny)


def saved(path, **changes):
    facts = {key: value for key, value in (FACTS | changes).items() if value is not None}
    save_weights(tiny(), path, {key: json.dumps(value) for key, value in facts.items()})
    return path


def test_metadata_gives_model_and_manifest(tmp_path):
    model, manifest = open_weights(saved(tmp_path / "best.safetensors"))
    assert torch.equal(model.down.weight, tiny().down.weight) and not model.training
    assert (manifest.network, manifest.options, manifest.skeleton) == ("tiny", {"width": 8}, COCO17)
    assert (manifest.input_size, manifest.codec) == (SIZE, FACTS["codec"])
    assert (manifest.recipe, manifest.training) == (FACTS["recipe"], FACTS["training"])
    assert [measured["AP"] for measured in manifest.accuracy] == [0.5]


@pytest.mark.parametrize(("name", "mode"), [("msra", "msra"), ("dark", "msra"), ("udp", "udp")])
def test_codec_sets_crop_mode(tmp_path, name, mode):
    _, manifest = open_weights(saved(tmp_path / "best.safetensors", codec={"name": name, "stride": 4, "sigma": 1.5}))
    assert (manifest.make_codec().name, manifest.crop_mode) == (name, mode)


def test_arguments_override_metadata(tmp_path):
    path = saved(tmp_path / "best.safetensors", options={"width": 99})
    assert open_weights(path, options={"width": 8}, input_size=Size(height=128, width=96))[1].input_size == Size(
        height=128, width=96
    )
    assert open_weights(path, network="tiny")[1].options == {}


def test_pth_weights_need_three_options(tmp_path):
    path = tmp_path / "official.pth"
    torch.save({"state_dict": tiny().state_dict()}, path)
    manifest = open_weights(path, network="tiny", skeleton="coco17", input_size=SIZE)[1]
    assert (manifest.skeleton, manifest.codec, manifest.accuracy) == (COCO17, {"name": "msra", "stride": 4}, ())


def missing(folder):
    return folder / "no.safetensors"


def corrupted(folder):
    path = saved(folder / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def of_another_shape(folder):
    return saved(folder / "wide.safetensors", options={"width": 16})


def of_another_skeleton(folder):
    return saved(folder / "lsp.safetensors", skeleton=LSP14.to_dict())


def without_network(folder):
    return saved(folder / "silent.safetensors", network=None, input_size=None)


def unknown_network(folder):
    return saved(folder / "a.safetensors", network="tinny")


def not_json(folder):
    save_weights(tiny(), folder / "a.safetensors", {"version": "2", "network": "tiny"})
    return folder / "a.safetensors"


def unknown_codec(folder):
    return saved(folder / "a.safetensors", codec={"name": "dirk"})


def wrong_option(folder):
    return saved(folder / "a.safetensors", options={"width": "wide"})


def good(folder):
    return saved(folder / "a.safetensors")


BAD = [
    (missing, [], "There is no weights file .*no.safetensors"),
    (corrupted, [], "cut.safetensors cannot be read as weights"),
    (of_another_shape, [], "do not fit this network: .* with a different shape"),
    (of_another_skeleton, [], "final_layer.weight .17, 8, 1, 1., wanted .14, 8, 1, 1."),
    (without_network, [], "add --network NAME --input-size HEIGHTxWIDTH"),
    (unknown_network, [], "Unknown network 'tinny'. Did you mean 'tiny'?"),
    (unknown_codec, [], "codec 'dirk' is unknown. Did you mean 'dark'?"),
    (not_json, [], "is not JSON"),
    (wrong_option, [], "tiny cannot be built with {'width': 'wide'}"),
    (good, ["--network", "cpn"], "Unknown network 'cpn'"),
    (good, ["--skeleton", "coco16"], "Unknown skeleton 'coco16'. Did you mean 'coco17'?"),
    (good, ["--option", "depth=3"], "tiny has no option 'depth'"),
    (good, ["--option", "depth"], "--option depth: wanted KEY=VALUE"),
    (good, ["--input-size", "256"], "--input-size: 256 is not a size; wanted height x width"),
    (good, ["--input-size", "64x0"], "height is 64 and width is 0"),
    (good, ["--input-size", "48x64"], "48x64 is wider than tall; sizes are height x width; did you mean 64x48"),
    (good, ["--crops", "nowhere"], "nowhere is not a folder"),
    (good, ["--out", "model.pt"], r"model.pt: the exported file must be named \*.onnx"),
]
IDS = [" ".join([make.__name__, *arguments]) for make, arguments, _ in BAD]


@pytest.mark.parametrize(("make", "arguments", "message"), BAD, ids=IDS)
def test_invalid_input_is_one_line_and_no_file(tmp_path, make, arguments, message):
    path = make(tmp_path)
    outcome = CliRunner().invoke(featherpose, ["export", str(path), *arguments])
    with pytest.raises(FeatherposeError, match=message) as caught:
        raise outcome.exception
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("**/*.onnx"))


def test_export_command_prints_parity_table(tmp_path):
    path = saved(tmp_path / "best.safetensors")
    outcome = CliRunner().invoke(featherpose, ["export", str(path)], catch_exceptions=False)
    assert outcome.exit_code == 0
    for arguments in (
        "keypoints",
        "(N, 17, 2)",
        "of their range, allowed 0.0001",
        "0 of 170 keypoints moved",
        "best.onnx",
    ):
        assert arguments in outcome.stdout
    assert read_manifest(tmp_path / "best.onnx").recipe == FACTS["recipe"]


def test_export_command_prints_json(tmp_path):
    path = saved(tmp_path / "best.safetensors")
    arguments = ["export", str(path), "--out", str(tmp_path / "small.onnx"), "--input-size", "32x32", "--json"]
    outcome = CliRunner().invoke(featherpose, arguments, catch_exceptions=False)
    facts = json.loads(outcome.stdout)
    assert facts["bytes"] == (tmp_path / "small.onnx").stat().st_size
    assert facts["manifest"]["input_size"] == {"height": 32, "width": 32}
    assert facts["manifest"]["parity"]["keypoints"] < 0.01
