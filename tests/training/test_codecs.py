"""For every codec from a recipe to poses on an image: train a few steps, export, evaluate and predict with the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")

from featherpose import images, networks
from featherpose.cli import featherpose
from featherpose.codecs import CODECS
from featherpose.crop import Crop
from featherpose.exporting.parity import slack
from featherpose.manifest import read_manifest
from featherpose.runtime.session import Session
from tests.evaluation.folders import write_folder
from tests.exporting.conftest import Tiny
from tests.training.conftest import TINY

pytestmark = [pytest.mark.torch, pytest.mark.slow]
BOX = [60, 40, 200, 220]


def run_command(*arguments: str) -> str:
    result = CliRunner().invoke(featherpose, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_from_recipe_to_poses(
    name: str, synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.NETWORKS, "tiny", Tiny)
    recipe = TINY | {"network": "tiny", "options": {}, "codec": name, "validation": {"flip_test": True}}
    recipe["data"] = {"labels": "ground_truth", "folder": str(synthetic_shards), "val_fraction": 0.2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run, model = tmp_path / "run", str(tmp_path / "run" / "best.onnx")
    run_command("train", str(tmp_path / "recipe.yaml"), "--out", str(run), "--device", "cpu", "--workers", "0")
    history = json.loads((run / "card.json").read_text())["history"]
    assert len(history) == 2 and all(0 <= epoch["pck"] <= 100 for epoch in history)

    run_command("export", str(run / "best.safetensors"))
    manifest = read_manifest(model)
    codec = manifest.make_codec()
    assert (codec.name, codec.sigma, manifest.crop_mode) == (name, 1.5, CODECS[name].crop_mode)
    assert manifest.parity["keypoints"] <= 0.01

    data = write_folder(tmp_path / "samples")
    options = ("--data", str(data), "--device", "cpu", "--flip-test", "--out", str(tmp_path / "results.json"), "--json")
    assert json.loads(run_command("evaluate", "--model", model, *options))["num_instances"] == 3

    image_path = data / "images" / "photo-5.png"
    (tmp_path / "boxes.json").write_text(json.dumps({image_path.name: [BOX]}))
    out = ("--out", str(tmp_path / "poses"), "--no-draw", "--device", "cpu")
    run_command("predict", str(image_path), "--model", model, "--boxes", str(tmp_path / "boxes.json"), *out)
    (person,) = json.loads((tmp_path / "poses" / "poses.json").read_text())["images"][0]["instances"]

    crop = Crop.from_box(BOX, manifest.input_size, manifest.crop_mode, manifest.padding)
    pixels = images.warp(images.read(image_path), crop.matrix, crop.size, antialias=True)
    heatmaps = Session.open(model, "cpu", 1).run(pixels[None])["heatmaps"]
    wanted = crop.to_image(codec.decode(heatmaps)[0][0])
    found = np.array([place[:2] for place in person["keypoints"].values()])
    zoom = 1 / crop.matrix[0, 0]
    assert (np.abs(found - wanted).max(axis=1) <= zoom * slack(codec, heatmaps)[0] + 0.01).all()
