"""Distillation: a teacher network, pseudo-labels stored with the data set, and teachers that do not fit."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import DataError, ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import read_facts, save_weights
from featherpose.recipes.pose import Distill, PoseRecipe
from featherpose.recipes.reading import from_dict
from featherpose.skeleton import COCO17, MPII16
from featherpose.training import loop
from featherpose.training.distill import open_teacher
from featherpose.training.tasks.pose_labels import read_labels
from featherpose.training.tasks.pose_training import draw_targets
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    facts = {"version": 2, "network": "cbam_lite_hrnet_18", "options": {"width": 8}, "skeleton": COCO17.to_dict()}
    path = tmp_path / "teacher.safetensors"
    torch.manual_seed(3)
    network = create_network("cbam_lite_hrnet_18", width=8)
    save_weights(network, path, {key: json.dumps(value) for key, value in facts.items()})
    return path


def recipe(folder: Path, **distill: object) -> PoseRecipe:
    return from_dict({**TINY, "data": {"labels": "ground_truth", "folder": str(folder)}, "distill": distill})


def test_teacher_changes_weights_and_metadata(teacher: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    def last_weights(**distill: object) -> Path:
        run = tmp_path / ("taught" if distill else "alone")
        loop.train(recipe(synthetic_shards, **distill), run, device="cpu", workers=0, quiet=True)
        return run / "last.safetensors"

    with_teacher, without_teacher = last_weights(teacher=str(teacher), weight=0.9), last_weights()
    assert "its heatmaps as targets" in read_facts(with_teacher)["training"]["teacher"]
    assert read_facts(without_teacher)["training"]["teacher"] is None
    assert with_teacher.read_bytes() != without_teacher.read_bytes()


def test_teacher_with_other_keypoints_raises(teacher: Path) -> None:
    with pytest.raises(ModelError, match="mpii16"):
        open_teacher(Distill(teacher=str(teacher)), MPII16, CPU)


def test_missing_teacher_is_named_in_error() -> None:
    with pytest.raises(ModelError, match="nosuch"):
        open_teacher(Distill(teacher="nosuch"), COCO17, CPU)


def test_no_teacher_network_by_default() -> None:
    assert open_teacher(Distill(), COCO17, CPU) is None
    assert open_teacher(Distill(teacher="labels"), COCO17, CPU) is None


def test_label_teacher_needs_its_file(synthetic_shards: Path) -> None:
    with pytest.raises(DataError, match=r"no teacher-labels\.npz"):
        read_labels(recipe(synthetic_shards, teacher="labels"))


class TestDrawTargets:
    """One sample, two label sets for two keypoints, heatmaps of one cell."""

    down = torch.tensor([[[[1.0], [1.0]], [[0.5], [0.25]]]])
    across = torch.ones(1, 2, 2, 1)

    def target(self, weights: object) -> tuple[list[float], list[float]]:
        heatmaps, weight = draw_targets((self.down, self.across, torch.tensor([weights])), (0.75, 0.25))
        return heatmaps.ravel().tolist(), weight.ravel().tolist()

    def test_label_weights_average_both_targets(self) -> None:
        assert self.target([[1.0, 1.0], [1.0, 1.0]]) == ([0.875, 0.8125], [1, 1])

    def test_zero_weight_labels_are_ignored(self) -> None:
        assert self.target([[1.0, 0.0], [0.0, 0.5]]) == ([1.0, 0.25], [1, 0.5])

    def test_all_zero_weights_give_zero_target(self) -> None:
        assert self.target([[0.0, 0.0], [0.0, 0.0]]) == ([0, 0], [0, 0])
