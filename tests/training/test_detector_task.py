"""The detector task on drawn scenes: batches, resumption, validation, what is written, bad data."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
from safetensors.torch import load_file

from featherpose.errors import DataError, ModelError, RecipeError
from featherpose.networks.checkpoints import read_facts
from featherpose.recipes.detector import DetectorRecipe
from featherpose.recipes.reading import from_dict, override
from featherpose.recipes.schedule import epochs
from featherpose.training.loop import train
from featherpose.training.tasks import check, detector_validation
from featherpose.training.tasks.detector import DetectorTask
from featherpose.training.tasks.detector_validation import decode
from tests.training.conftest import add_file

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one shard of 24 scenes: bright rectangles, 0 to 3, are the people."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "det-0000.tar", "w") as archive:
        for number in range(24):
            pixels = np.full((96, 128, 3), 40, np.uint8)
            people: list[dict[str, Any]] = []
            for _ in range(number % 4):
                left, top = rng.integers(4, 70, 2)
                width, height = rng.integers(16, 26, 2)
                pixels[top : top + height, left : left + width] = 220
                people.append({"box_xywh": [int(v) for v in (left, top, width, height)], "iscrowd": 0})
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "WEBP", lossless=True)
            record = {"image": f"{number}.jpg", "source": "coco", "width": 128, "height": 96, "people": people}
            add_file(archive, f"s{number:02d}.webp", stream.getvalue())
            add_file(archive, f"s{number:02d}.json", json.dumps(record).encode())
    return folder


def recipe(folder: Path, *settings: str) -> DetectorRecipe:
    values = {
        "task": "detector",
        "options": {"neck_channels": 16},
        "data": {"folders": [str(folder)], "val_fraction": 0.2},
        "stages": [{"long_side": 64, "epochs": 2, "batch_size": 4}],
        "schedule": {"name": "cosine", "warmup": 1},
    }
    found = override(from_dict(values), settings)
    assert isinstance(found, DetectorRecipe)
    return found


def test_batches_hold_padded_targets(scenes: Path) -> None:
    chosen = recipe(scenes)
    task = DetectorTask(chosen)
    (plan, *_) = epochs(chosen, task.steps)
    data = task.prepare(chosen.stages[0])
    all_batches = list(data.batches([plan], 0, workers=0))
    assert len(all_batches) == plan.steps
    images, boxes, kinds, keypoints, visibility, areas, negative_weight = all_batches[0]
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (4, 64, 64, 3))
    assert boxes.shape[:2] == kinds.shape == areas.shape == visibility.shape[:2]
    assert keypoints.shape == (*kinds.shape, 17, 2)
    assert negative_weight.tolist() == [1] * 4
    later = list(data.batches([plan], 2, workers=0))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(all_batches[2:], later, strict=True))


def test_resumed_run_equals_uninterrupted(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Random boxes are not right; here the threshold is the number of validation images.
    monkeypatch.setattr(detector_validation, "score_at_precision", lambda found: len(found) / 100)
    whole = train(recipe(scenes), tmp_path / "whole", workers=0, device="cpu", quiet=True)
    assert not train(recipe(scenes), tmp_path / "two", workers=0, device="cpu", quiet=True, max_minutes=1e-9).finished
    resumed = train(recipe(scenes), tmp_path / "two", workers=0, device="cpu", quiet=True, resume=True)
    assert resumed.finished
    wanted = load_file(tmp_path / "whole" / "last.safetensors")
    found = load_file(tmp_path / "two" / "last.safetensors")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert {"box_ap", "box_ap50", "box_recall", "loss", "conf"} < set(whole.best)
    assert whole.best["conf"] == DetectorTask(recipe(scenes)).num_validation / 100
    facts = read_facts(tmp_path / "whole" / "best.safetensors")
    assert (facts["network"], facts["recipe"]["task"]) == ("feather_detect", "detector")
    assert facts["recipe"]["data"]["folders"] == [scenes.name]
    assert "| epoch | input | AP | AP50 | recall | loss | conf |" in (tmp_path / "whole" / "card.md").read_text()

    # Weights without it, of an earlier version: export computes it.
    pytest.importorskip("onnx")
    from featherpose.exporting.weights import open_detector

    monkeypatch.chdir(scenes.parent)
    monkeypatch.setattr(detector_validation, "score_at_precision", lambda found: len(found) / 50)
    opened = [open_detector(tmp_path / "whole" / "best.safetensors", conf)[1].conf for conf in (None, "validation")]
    assert opened == pytest.approx([whole.best["conf"], 2 * whole.best["conf"]])


def test_decoded_boxes_are_best_first(scenes: Path) -> None:
    task = DetectorTask(recipe(scenes))
    torch.manual_seed(0)
    network = task.create_network().eval()
    with torch.no_grad():
        raw = network(torch.randn(2, 3, 64, 96))
    from featherpose.size import Size

    for boxes, scores in decode(raw._replace(logits=raw.logits + 4), Size(height=64, width=96)):
        assert boxes.shape == (len(scores), 4)
        assert len(scores)
        assert (np.diff(scores) <= 0).all()


def test_missing_folder_is_a_note(scenes: Path) -> None:
    task = DetectorTask(recipe(scenes, f"data.folders=['{scenes}', nowhere]"))
    assert task.notes[0].startswith("Training without one data set. There is no folder nowhere")


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("data.folders=[nowhere]", DataError, "There is no folder nowhere"),
        ("network=feather_detekt", ModelError, "feather_detect"),
        ("options={neck_channels: 20}", ModelError, "neck_channels is 20"),
        ("frozen_stages=9", RecipeError, "frozen_stages"),
        ("pretrained=nosuch.safetensors", Exception, "nosuch"),
    ],
)
def test_check_refuses_what_cannot_train(scenes: Path, setting: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(recipe(scenes, setting))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.0.long_side=100", "100 is not a multiple of 32"),
        ("augmentation.scale=[2, 1]", "scale is"),
        ("codec=msra", "unknown key 'codec'"),
        ("data.folder=x", "Did you mean 'folders'"),
    ],
)
def test_bad_detector_recipe_is_refused(scenes: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(scenes, setting)


def test_all_images_on_one_side_is_an_error(scenes: Path) -> None:
    with pytest.raises(DataError, match=r"data\.val_fraction=0\.01"):
        DetectorTask(recipe(scenes, "data.val_fraction=0.01"))
