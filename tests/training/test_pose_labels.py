"""Training on one data set with validation on another: COCO files and shards, images in both, fields without effect."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from featherpose import images
from featherpose.data.augment import Augmentation
from featherpose.errors import DataError, RecipeError
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict, with_data
from featherpose.recipes.shipped import get_recipe
from featherpose.skeleton import COCO17
from featherpose.training import loop
from featherpose.training.tasks import check
from featherpose.training.tasks.pose_labels import read_labels
from tests.training.conftest import TINY, add_file, synthetic_person

pytestmark = pytest.mark.torch
Write = Callable[..., Path]


def write_coco(path: Path, names: list[str], keypoint_names: tuple[str, ...] = COCO17.keypoint_names) -> Path:
    """Path and image names -> a COCO file with one person in each image, and the images next to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        images.write(path.parent / name, rng.integers(0, 256, (96, 96, 3), np.uint8))
    keypoints = [[float(x), float(y), 2] for x, y in rng.integers(20, 76, (len(keypoint_names), 2))]
    person = {"category_id": 1, "bbox": [16, 16, 64, 64], "keypoints": [v for row in keypoints for v in row]}
    truth = {
        "images": [{"id": i, "file_name": name, "width": 96, "height": 96} for i, name in enumerate(names)],
        "annotations": [{**person, "id": i, "image_id": i} for i in range(len(names))],
        "categories": [{"id": 1, "name": "person", "keypoints": list(keypoint_names)}],
    }
    path.write_text(json.dumps(truth))
    return path


def write_shards(path: Path, names: list[str]) -> Path:
    """Folder and image names (KEY.jpg) -> the folder with one shard of a synthetic person per image."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with tarfile.open(path / "own.tar", "w") as archive:
        for name in names:
            key = name.removesuffix(".jpg")
            image, record = synthetic_person(rng, key)
            add_file(archive, f"{key}.webp", image)
            add_file(archive, f"{key}.json", record)
    return path


def recipe(folder: Path, val_folder: Path | str, **data: Any) -> PoseRecipe:
    values = {**TINY, "data": {"labels": "ground_truth", "folder": str(folder), "val_folder": str(val_folder), **data}}
    found = from_dict(values)
    assert isinstance(found, PoseRecipe)
    return found


@pytest.mark.parametrize(
    ("write", "train", "val"),
    [(write_coco, "train/train.json", "val/val.json"), (write_shards, "train", "val")],
    ids=["coco", "shards"],
)
def test_val_folder_is_the_validation_set(write: Write, train: str, val: str, tmp_path: Path) -> None:
    training = write(tmp_path / train, [f"a{i}.jpg" for i in range(24)])
    validation = write(tmp_path / val, [f"b{i}.jpg" for i in range(3)])
    labels = read_labels(recipe(training, validation))
    assert {labels.samples[row].image for row in labels.training_rows} == {f"a{i}.jpg" for i in range(24)}
    assert [labels.samples[row].image for row in labels.validation_rows] == ["b0.jpg", "b1.jpg", "b2.jpg"]
    outcome = loop.train(recipe(training, validation), tmp_path / "run", device="cpu", workers=0, quiet=True)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert outcome.finished
    assert card["validation_samples"] == 3
    assert card["recipe"]["data"]["val_folder"] == validation.name, "no path of this machine"


@pytest.mark.parametrize("write", [write_coco, write_shards], ids=["coco", "shards"])
def test_image_in_both_sets_is_refused(write: Write, tmp_path: Path) -> None:
    end = "/x.json" if write is write_coco else ""
    training = write(tmp_path / f"train{end}", ["a.jpg", "b.jpg", "c.jpg"])
    validation = write(tmp_path / f"val{end}", ["d.jpg", "c.jpg", "b.jpg"])
    with pytest.raises(DataError, match=r"2 images are in both .*train.* and .*val.*, first b\.jpg; remove them from"):
        read_labels(recipe(training, validation))


def test_validation_set_without_the_keypoints_raises(tmp_path: Path) -> None:
    training = write_coco(tmp_path / "train" / "x.json", ["a.jpg"])
    validation = write_coco(tmp_path / "val" / "x.json", ["b.jpg"], ("beak", "tail"))
    with pytest.raises(DataError, match=r"none of 1 samples has a keypoint of coco17 to validate on"):
        read_labels(recipe(training, validation))


def test_custom_keypoints_of_two_files_are_one_skeleton(tmp_path: Path) -> None:
    training = write_coco(tmp_path / "a" / "train.json", ["a.jpg"], ("beak", "tail"))
    validation = write_coco(tmp_path / "b" / "val.json", ["b.jpg"], ("beak", "tail"))
    changed = with_data(get_recipe("custom-feather_pose"), str(training), str(validation))
    assert isinstance(changed, PoseRecipe)
    assert read_labels(changed).skeleton.keypoint_names == ("beak", "tail")


def test_missing_validation_set_raises(tmp_path: Path) -> None:
    training = write_shards(tmp_path / "train", ["a.jpg"])
    validation = write_coco(tmp_path / "val" / "x.json", ["b.jpg"])
    with pytest.raises(DataError, match=r"x\.json: no samples to validate on: data\.sources is coco, .* 1 of x"):
        read_labels(recipe(training, validation, sources=["coco"]))
    with pytest.raises(DataError, match="There is no folder nowhere"):
        check(recipe(training, "nowhere"))


def test_fraction_beside_val_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.val_fraction has no effect with data\.val_folder; remove one"):
        recipe(tmp_path, tmp_path, val_fraction=0.2)
    changed = with_data(get_recipe("paper-hrnet_w32-384x288-coco"), "train2017.json", "val2017.json")
    assert (changed.data.folder, changed.data.val_folder) == ("train2017.json", "val2017.json")
    assert changed.problem == ""


def test_strict_and_category_reach_the_labels(tmp_path: Path) -> None:
    training = write_coco(tmp_path / "train" / "a.json", ["a.jpg"])
    validation = write_coco(tmp_path / "val" / "b.json", ["b.jpg"])
    training.write_text(training.read_text().replace("[16, 16, 64, 64]", "[0.16, 0.16, 0.64, 0.64]"))
    notes = read_labels(recipe(training, validation)).notes
    assert any(note.startswith("Warning: 1 of 1 boxes are between 0 and 1") for note in notes)
    with pytest.raises(DataError, match=r"1 of 1 boxes are between 0 and 1.*leave out --strict"):
        read_labels(recipe(training, validation, strict=True))
    with pytest.raises(DataError, match="0 categories are called horse"):
        read_labels(recipe(training, validation, category="horse"))


@pytest.mark.parametrize(("keypoint_names", "warns"), [(("1", "2"), True), (("left_tip", "right_tip"), False)])
def test_flipping_without_pairs_is_a_warning(tmp_path: Path, keypoint_names: tuple[str, ...], warns: bool) -> None:
    training = write_coco(tmp_path / "train" / "a.json", ["a.jpg"], keypoint_names)
    validation = write_coco(tmp_path / "val" / "b.json", ["b.jpg"], keypoint_names)
    for flip_prob in (0.5, 0.0):
        flipped = recipe(training, validation).model_copy(
            update={"skeleton": "data", "augmentation": Augmentation(flip_prob=flip_prob)}
        )
        notes = read_labels(flipped).notes
        assert any("no keypoint names a left or right side" in note for note in notes) == (warns and flip_prob > 0)
