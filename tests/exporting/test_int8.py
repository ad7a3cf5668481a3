"""int8 export: smaller, near the float32 model on photographs, scored on the recipe's data, refused where it loses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from click.testing import CliRunner, Result

from featherpose import examples, images, weights
from featherpose.cli import featherpose
from featherpose.crop import Crop
from featherpose.errors import FeatherposeError, InputError
from featherpose.exporting import int8
from featherpose.manifest import PoseManifest, of_kind, read_manifest
from featherpose.networks import create_network
from featherpose.networks.checkpoints import save_weights
from featherpose.onnx_metadata import KEY
from featherpose.recipes.reading import from_dict
from featherpose.recipes.recipe import to_dict
from featherpose.runtime.session import Session
from featherpose.skeleton import COCO17
from tests.training.conftest import TINY, write_shard

pytestmark = pytest.mark.torch


def saved(folder: Path, **changes: Any) -> Path:
    """Random weights of a small network, with a recipe that is `TINY` with changes."""
    network = create_network("inverted_pose", 17, width=0.1)
    recipe = to_dict(from_dict({**TINY, **changes})) if changes else {}
    facts = {
        **{"version": 2, "network": "inverted_pose", "options": {"width": 0.1}, "skeleton": COCO17.to_dict()},
        **{"input_size": {"height": 64, "width": 64}, "codec": {"name": "msra", "stride": 4, "sigma": 1.5}},
        "recipe": {**recipe, "digest": "0"} if changes else {},
    }
    path = folder / "best.safetensors"
    save_weights(network, path, {key: json.dumps(value) for key, value in facts.items()})
    return path


@pytest.fixture
def weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATHERPOSE_CACHE", str(tmp_path / "cache"))
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards)
    torch.manual_seed(0)
    return saved(tmp_path, data={"labels": "ground_truth", "folder": str(shards), "val_fraction": 0.2})


def export(*words: Any) -> Result:
    return CliRunner().invoke(featherpose, ["export", *map(str, words)])


def test_quantized_model_stays_near_the_original(tmp_path: Path) -> None:
    source = weights.find("small")
    manifest = of_kind(read_manifest(source), PoseManifest, source)
    image = images.read(examples.find("people.jpg"))
    boxes = json.loads(examples.find("boxes.json").read_text())["people.jpg"]
    crops = [Crop.from_box(box, manifest.input_size, manifest.crop_mode, manifest.padding) for box in boxes]
    pixels = np.stack([images.warp(image, crop.matrix, crop.size, antialias=True) for crop in crops])
    int8.quantize(source, tmp_path / "int8.onnx", pixels)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * source.stat().st_size
    exact, quantized = (Session.open(path, "cpu").run(pixels) for path in (source, tmp_path / "int8.onnx"))
    assert not np.array_equal(exact["heatmaps"], quantized["heatmaps"])
    sure = exact["scores"] > 0.5
    away = np.linalg.norm(exact["keypoints"] - quantized["keypoints"], axis=-1)[sure]
    assert sure.sum() > 10 and np.median(away) < 1  # crop pixels


def test_command_scores_both_and_writes_a_plain_file(weights_file: Path) -> None:
    saved(weights_file.parent, data={"folder": "/no/shards"})
    outcome = export(weights_file, "--int8", "--data", weights_file.parent / "shards")
    assert outcome.exit_code == 0, outcome.output
    assert "persons of the validation set" in outcome.stdout and "best-int8.onnx" in outcome.stdout
    path = weights_file.with_name("best-int8.onnx")
    found = read_manifest(path).parity["int8"]
    assert found["score"] == "OKS accuracy" and found["persons"] > 0 and found["data"].endswith("shards")
    assert found["difference"][0] == pytest.approx(found["int8"] - found["float32"])
    file = onnx.load(path)
    assert [entry.domain for entry in file.opset_import] == [""]
    assert [entry.key for entry in file.metadata_props] == [KEY]
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in file.graph.node}


def test_loss_beyond_the_limit_writes_nothing(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"score": "OKS accuracy", "float32": 40.0, "int8": 37.5, "difference": [-2.5, -3.0, -2.0]}

    def compared(*_: object) -> dict[str, Any]:
        return found

    monkeypatch.setattr(int8, "compared", compared)
    outcome = export(weights_file, "--int8", "--max-loss", 2)
    assert "costs 2.5 percentage points of OKS accuracy" in str(outcome.exception)
    assert not list(weights_file.parent.glob("*.onnx"))


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({}, ["--int8"], "int8 needs the recipe of the weights"),
        ({"data": {"folder": "/no/shards"}}, ["--int8"], "cannot be used: .* Give the data set with --data."),
        ({"data": {"folder": "/no/shards"}}, ["--data", "shards"], "data is used by int8 alone"),
        ({"data": {"folder": "/no/shards"}}, ["--max-loss", "2"], "max_loss is used by int8 alone"),
    ],
)
def test_invalid_input(tmp_path: Path, changes: dict[str, Any], words: list[str], message: str) -> None:
    outcome = export(saved(tmp_path, **changes), *words)
    with pytest.raises(FeatherposeError, match=message):
        raise outcome.exception or AssertionError(outcome.output)


def test_shipped_name_is_written_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export("small").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["feather_pose-128x96.onnx"]
    assert "Did you mean 'small'?" in str(export("smal").exception)


def test_detector_is_refused() -> None:
    outcome = export(weights.find("feather_detect", ".safetensors"), "--int8")
    assert "exported without int8" in str(outcome.exception)


def test_weights_have_seven_or_eight_bits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wanted 7 or 8"):
        int8.quantize(weights.find("small"), tmp_path / "a.onnx", np.zeros((1, 128, 96, 3), np.uint8), weight_bits=4)
