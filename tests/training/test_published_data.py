"""Training takes every data set as it is published: labels, splits and the check of a recipe."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from featherpose import api
from featherpose.errors import DataError
from featherpose.skeleton import MPII16
from featherpose.training.tasks import pose_labels
from featherpose.training.tasks.pose_labels import read_labels
from tests.data.published import LAYOUTS, coco, mpii_json, mpii_mat

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(("name", "write", "skeleton", "count"), LAYOUTS.values(), ids=LAYOUTS)
def test_labels_of_every_data_set(
    name, write, skeleton, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(tmp_path / name)
    held_out: list[str] = []

    def is_first(image: str, val_fraction: float) -> bool:
        held_out[:] = held_out or [image]
        return image == held_out[0]

    monkeypatch.setattr(pose_labels, "is_validation", is_first)  # of so few images, no hash may hold out one
    labels = read_labels(api.open_recipe("lite_hrnet_18", data=place))
    assert (len(labels.training_rows), len(labels.validation_rows)) == (count - 1, 1)
    assert skeleton in (None, labels.skeleton)
    assert labels.weights[labels.training_rows].any(axis=(1, 2)).all()


def test_splits_are_named_behind_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "coco")
    monkeypatch.chdir(tmp_path)
    recipe = api.open_recipe("lite_hrnet_18", data="coco/train2017", val_data="coco/val2017")
    labels = read_labels(recipe)
    images = [int(Path(sample.image).stem) for sample in labels.samples]
    np.testing.assert_array_equal(np.array(images)[labels.validation_rows], [1001, 1002, 1003])
    assert api.check_recipe(recipe) > 1e6
    with pytest.raises(DataError, match=r"There is no folder coco/val2018 and no .*docs/data\.md"):
        api.check_recipe(api.open_recipe("lite_hrnet_18", data="coco/val2018"))


def test_mpii_is_read_alike_from_both_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose_labels, "is_validation", lambda image, fraction: image.endswith(("5000.jpg", "6000.jpg")))
    of_json = read_labels(api.open_recipe("lite_hrnet_18", data=mpii_json(tmp_path / "json")))
    of_mat = read_labels(api.open_recipe("lite_hrnet_18", data=mpii_mat(tmp_path / "mat")))
    assert of_json.skeleton is of_mat.skeleton is MPII16
    # The person of the second image lacks the left wrist in both.
    np.testing.assert_allclose(of_json.keypoints[1, 0], of_mat.keypoints[1, 0], atol=1e-4)
    np.testing.assert_array_equal(of_json.weights[1], of_mat.weights[1])
