"""Distillation: a teacher network, pseudo-labels stored with the data set, and teachers that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from featherpose.errors import DataError, ModelError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import read_facts, save_weights
from featherpose.recipes.recipe import Distill, Recipe, from_dict
from featherpose.skeleton import COCO17, MPII16
from featherpose.training import loop
from featherpose.training.batches import blend
from featherpose.training.distill import open_teacher
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    facts = {"network": "cbam_lite_hrnet_18", "options": {"width": 8}, "skeleton": COCO17.to_dict()}
    path = tmp_path / "teacher.safetensors"
    torch.manual_seed(3)
    network = create_network("cbam_lite_hrnet_18", width=8)
    save_weights(network, path, {key: json.dumps(value) for key, value in facts.items()})
    return path


def recipe(folder: Path, **distill: object) -> Recipe:
    return from_dict({**TINY, "data": {"labels": "ground_truth", "folder": str(folder)}, "distill": distill})


def test_a_run_learns_from_a_teacher_and_its_card_says_so(teacher: Path, drawn_people: Path, tmp_path: Path) -> None:
    def losses(**distill: object) -> Path:
        run = tmp_path / ("taught" if distill else "alone")
        loop.train(recipe(drawn_people, **distill), run, device="cpu", workers=0, quiet=True)
        return run / "last.safetensors"

    taught, alone = losses(teacher=str(teacher), weight=0.9), losses()
    assert "its heatmaps as targets" in read_facts(taught)["training"]["teacher"]
    assert read_facts(alone)["training"]["teacher"] is None
    assert taught.read_bytes() != alone.read_bytes()


def test_a_teacher_of_other_joints_is_refused(teacher: Path) -> None:
    with pytest.raises(ModelError, match="mpii16"):
        open_teacher(Distill(teacher=str(teacher)), MPII16, CPU)


def test_a_teacher_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="nosuch"):
        open_teacher(Distill(teacher="nosuch"), COCO17, CPU)


def test_no_teacher_where_none_is_asked_for() -> None:
    assert open_teacher(Distill(), COCO17, CPU) is None
    assert open_teacher(Distill(teacher="labels"), COCO17, CPU) is None


def test_labels_as_teacher_need_their_file(drawn_people: Path) -> None:
    from featherpose.training.tasks import pose

    with pytest.raises(DataError, match=r"no teacher-labels\.npz"):
        pose.read_samples(recipe(drawn_people, teacher="labels"))


class TestBlend:
    """Two label sets for two keypoints, with heatmaps of one cell."""

    maps = np.array([[[[1.0]], [[1.0]]], [[[0.5]], [[0.25]]]], np.float32)

    def test_trust_divides_between_two_who_know(self) -> None:
        target, weight = blend(self.maps, np.ones((2, 2), np.float32), (0.75, 0.25))
        np.testing.assert_allclose(target.ravel(), [0.875, 0.8125])
        np.testing.assert_allclose(weight, [1, 1])

    def test_who_does_not_know_does_not_speak(self) -> None:
        target, weight = blend(self.maps, np.array([[1, 0], [0, 0.5]], np.float32), (0.75, 0.25))
        np.testing.assert_allclose(target.ravel(), [1.0, 0.25])
        np.testing.assert_allclose(weight, [1, 0.5])

    def test_nobody_knows(self) -> None:
        target, weight = blend(self.maps, np.zeros((2, 2), np.float32), (0.5, 0.5))
        assert (target == 0).all()
        assert (weight == 0).all()
