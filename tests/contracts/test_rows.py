"""Every row of the paper's tables from the command line: one epoch on real samples, export, evaluation, benchmark."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")

from click.testing import CliRunner

from featherpose.cli import featherpose
from featherpose.recipes.shipped import RECIPES
from featherpose.skeleton import COCO17, MPII16
from tests.families import shorten

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROWS = [name for name in RECIPES if name.startswith("paper-")]
SIZE, BATCH, EPOCHS = 64, 4, 1
SAMPLES, MAX_IMAGES = 24, 3  # in the shard, a fifth of whose images are for validation; in the test set


def shard(source: Path, target: Path) -> Path:
    """Every tenth sample of a shard, so that few share an image, as a folder with one small shard."""
    target.mkdir()
    with tarfile.open(source) as archive, tarfile.open(target / source.name, "w") as small:
        members = archive.getmembers()  # an image and a record per sample
        for first in range(0, 20 * SAMPLES, 20):
            for info in members[first : first + 2]:
                small.addfile(info, io.BytesIO(archive.extractfile(info).read()))
    return target


def coco_labels(folder: Path) -> tuple[str, Any]:
    """coco-test -> name of its annotation file, and its content reduced to a few images with labeled keypoints."""
    truth = json.loads((folder / "person_keypoints.json").read_text())
    posed = {person["image_id"] for person in truth["annotations"] if person.get("num_keypoints")}
    truth["images"] = [image for image in truth["images"] if image["id"] in posed][:MAX_IMAGES]
    chosen = {image["id"] for image in truth["images"]}
    truth["annotations"] = [person for person in truth["annotations"] if person["image_id"] in chosen]
    return "person_keypoints.json", truth


def mpii_labels(folder: Path) -> tuple[str, Any]:
    """mpii-test -> name of its annotation file, and its content reduced to a few images."""
    persons = json.loads((folder / "people.json").read_text())
    images = list(dict.fromkeys(person["image"] for person in persons))[:MAX_IMAGES]
    return "people.json", [person for person in persons if person["image"] in images]


LABELS = {"coco": coco_labels, "mpii": mpii_labels}
KEYPOINT_NAMES = {"coco": list(COCO17.keypoint_names), "mpii": list(MPII16.keypoint_names)}
SCORE = {"coco": "ap", "mpii": "mean"}


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folders(row: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of training samples and a folder of test images, both of the row's data set."""
    monkeypatch.setenv("FEATHERPOSE_CACHE", str(tmp_path / "cache"))
    (source,) = RECIPES[row].data.sources
    samples = shard(shared / "data/pose-train" / f"{source}-0000.tar", tmp_path / "people")
    tested = shared / "data" / f"{source}-test"
    file, labels = LABELS[source](tested)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/images").symlink_to(tested / "images")
    (tmp_path / "photos" / file).write_text(json.dumps(labels))
    return samples, tmp_path / "photos"


def run(*arguments: object) -> dict[str, Any]:
    """Arguments of `featherpose` -> the JSON that it prints."""
    result = CliRunner().invoke(featherpose, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


def first_row_of(network: tuple[str, dict[str, Any]]) -> str:
    """Name and options of a network -> the first of its rows."""
    return next(name for name in ROWS if (RECIPES[name].network, RECIPES[name].options) == network)


def test_row_trains_exports_evaluates_benchmarks(
    row: str, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe with only input size, batch size, epochs and the network's depth changed, on a small shard."""
    shorten(monkeypatch)
    samples, images = folders
    recipe = RECIPES[row]
    (source,) = recipe.data.sources
    changes = {
        "data.folder": samples,
        "stages.0.input_size": f"{SIZE}x{SIZE}",
        "stages.0.batch_size": BATCH,
        "stages.0.epochs": EPOCHS,
    }
    settings = [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]

    trained = run("train", row, *settings, "--out", tmp_path / "run", "--device", "cpu", "--workers", 0)
    assert trained["finished"] and 0 <= trained["best"]["pck"] <= 100

    exported = run("export", tmp_path / "run/last.safetensors", "--out", tmp_path / "row.onnx")
    manifest = exported["manifest"]
    assert (manifest["network"], manifest["input_size"]) == (recipe.network, {"height": SIZE, "width": SIZE})
    assert (manifest["codec"]["name"], manifest["skeleton"]["keypoint_names"]) == (recipe.codec, KEYPOINT_NAMES[source])

    model = ["--model", tmp_path / "row.onnx", "--device", "cpu", "--out", tmp_path / "results.json"]
    evaluated = run("evaluate", *model, "--data", images, "--format", source)
    assert evaluated["num_images"] == MAX_IMAGES and evaluated["num_instances"] >= MAX_IMAGES
    assert 0 <= evaluated["scores"][SCORE[source]] <= 1

    # The same network on the other data set trains as fast.
    if row != first_row_of((recipe.network, recipe.options)):
        return
    words = ["--input-size", f"{SIZE}x{SIZE}", "--batch-size", 2, "--steps", 1, "--device", "cpu", "--workers", 0]
    words += ["--data", samples]
    options = [argument for key, value in recipe.options.items() for argument in ("--option", f"{key}={value}")]
    benchmarked = run("benchmark", "train", recipe.network, *words, *options)
    assert benchmarked["step"]["samples_per_s"] > 0 and benchmarked["loading"]["samples_per_s"] > 0
