"""Pseudo-labels: fill unlabeled keypoints, never replace human labels, and mask contradicted labels of noisy sets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.sample import Sample
from featherpose.data.shards import read_index
from featherpose.data.teacher import (
    FILE,
    coco_targets,
    contradicted,
    fill_gaps,
    map_samples,
    pseudo_labels,
    pseudo_targets,
    teacher_labels,
)
from featherpose.errors import DataError
from featherpose.skeleton import COCO17
from tests.data.conftest import Pack, record

HIP, KNEE, NOSE = (COCO17.keypoint_names.index(name) for name in ("left_hip", "left_knee", "nose"))

FILLS = [  # visibility, teacher's score -> from the teacher?, weight
    (2, 0.9, False, 1.0),
    (1, 0.9, False, 1.0),
    (2, 0.0, False, 1.0),
    (0, 0.9, True, 0.9),
    (0, 1.2, True, 1.0),
    (0, 0.31, True, 0.31),
    (0, 0.3, False, 0.0),
    (0, 0.0, False, 0.0),
]


@pytest.mark.parametrize(("visible", "score", "from_teacher", "weight"), FILLS)
def test_gaps_are_filled_by_confident_teacher(visible: int, score: float, from_teacher: bool, weight: float) -> None:
    keypoints, weights = fill_gaps(
        np.array([[1, 2]], np.float32), np.array([visible], np.uint8), np.array([[8, 9]]), np.array([score], np.float32)
    )
    assert keypoints.tolist() == [[8, 9] if from_teacher else [1, 2]]
    np.testing.assert_allclose(weights, [weight], rtol=1e-6)


def test_batch_fill_equals_single_fill() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((50, 17, 2)).astype(np.float32), rng.integers(0, 3, (50, 17)).astype(np.uint8)
    teacher = rng.random((50, 17, 2)).astype(np.float32), rng.random((50, 17)).astype(np.float32)
    keypoints, weights = fill_gaps(*labels, *teacher)
    for i in range(50):
        alone = fill_gaps(labels[0][i], labels[1][i], teacher[0][i], teacher[1][i])
        assert np.array_equal(keypoints[i], alone[0])
        assert np.array_equal(weights[i], alone[1])
    assert weights.min() >= 0
    assert weights.max() <= 1


@pytest.mark.parametrize(
    ("visible", "score", "distance", "expected"),
    [(2, 0.9, 6, True), (2, 0.9, 4, False), (1, 0.9, 6, True), (0, 0.9, 6, False), (2, 0.2, 6, False)],
)
def test_confident_teacher_contradicts_far_labels(visible: int, score: float, distance: float, expected: bool) -> None:
    seen = np.array([[50 + distance, 0]], np.float32), np.array([score], np.float32)
    box = np.array([0, 0, 40, 100], np.float32)  # tolerance 0.05 of the larger side: 5 px
    assert contradicted(np.array([[50, 0]], np.float32), np.array([visible], np.uint8), *seen, box).tolist() == [
        expected
    ]


def test_hips_and_shoulders_are_not_mapped(pack: Pack) -> None:
    samples = read_index(pack(record("a", "lsp14"), record("b", "mpii16"), record("c")).parent)
    keypoints, visibility = map_samples(samples)
    assert visibility[:, HIP].tolist() == [0, 0, 2]
    assert visibility[:, KNEE].tolist() == [2, 2, 2]
    assert visibility[:, NOSE].tolist() == [0, 0, 2]
    knee = samples[0].skeleton.keypoint_names.index("left_knee")
    assert np.array_equal(keypoints[0, KNEE], samples[0].keypoints[knee])
    assert np.array_equal(keypoints[2], samples[2].keypoints)


def test_no_samples_give_empty_targets() -> None:
    assert [array.shape for array in map_samples([])] == [(0, 17, 2), (0, 17)]
    assert coco_targets([], {}).weights.shape == (0, 17)


def save(folder: Path, **changes: object) -> None:
    arrays: dict[str, object] = {"keys": np.array(["a", "b"])}
    arrays |= {"keypoints": np.full((2, 17, 2), 20, np.float32), "scores": np.full((2, 17), 0.5, np.float32)}
    np.savez(folder / FILE, **{key: np.asarray(value) for key, value in (arrays | changes).items()})  # pyright: ignore


def test_pseudo_labels_follow_sample_order(pack: Pack) -> None:
    folder = pack(record("b"), record("x"), record("a")).parent
    points = np.full((2, 17, 2), 20, np.float32)
    points[0] = 10
    points[1, NOSE] = 10, 160  # half a pixel outside: the image's last row ends at 159.5
    save(folder, keypoints=points)
    keypoints, scores = pseudo_labels(read_index(folder), teacher_labels(folder))
    assert keypoints[:, KNEE, 0].tolist() == [10, 20, 0]
    assert scores[:, KNEE].tolist() == [0.5, 0.5, 0]
    assert scores[:, NOSE].tolist() == [0.5, 0, 0]


def test_noisy_sources_drop_contradicted_labels(pack: Pack) -> None:
    folder = pack(record("a", source="lspet"), record("b"), record("c", source="lspetrest")).parent
    save(folder, keys=np.array(["a", "c"]))
    samples = read_index(folder)
    labels = teacher_labels(folder)
    far = np.linalg.norm(samples[0].keypoints - 20, axis=1) > 0.05 * 96
    targets = coco_targets(samples, labels)
    assert far.any()
    for noisy in (0, 2):
        assert targets.weights[noisy].tolist() == np.where(far, 0.0, 1.0).tolist()
    assert targets.weights[1].tolist() == [1.0] * 17
    assert coco_targets(samples, labels, noisy=()).weights.min() == 1
    assert np.array_equal(targets.keypoints[0], samples[0].keypoints)


def test_pseudo_targets_are_the_teachers_alone(pack: Pack) -> None:
    folder = pack(record("a"), record("b", "lsp14"), record("x")).parent
    scores = np.full((2, 17), 0.5, np.float32)
    scores[0, [HIP, KNEE, NOSE]] = 0.3, 0.31, 1.2
    save(folder, scores=scores)
    samples, labels = read_index(folder), teacher_labels(folder)
    targets = pseudo_targets(samples, labels)
    assert (targets.keypoints.dtype, targets.weights.dtype) == (np.float32, np.float32)
    assert (targets.keypoints[:2] == 20).all(), "labeled keypoints, too"
    wanted = np.full((3, 17), 0.5, np.float32)
    wanted[0, [HIP, KNEE, NOSE]] = 0, 0.31, 1
    wanted[2] = 0  # the teacher has not seen this one, and what somebody labeled does not count
    np.testing.assert_array_equal(targets.weights, wanted)
    others = [replace(sample, keypoints=sample.keypoints + 9, visibility=0 * sample.visibility) for sample in samples]
    again = pseudo_targets(others, labels)
    np.testing.assert_array_equal(again.keypoints, targets.keypoints)
    np.testing.assert_array_equal(again.weights, targets.weights)
    assert (pseudo_targets(samples, labels, 0.5).weights > 0).sum() == 1
    assert pseudo_targets([], labels).weights.shape == (0, 17)


def test_without_teacher_gaps_have_weight_zero(pack: Pack) -> None:
    samples = read_index(pack(record("a", "lsp14"), record("b")).parent)
    weights = coco_targets(samples).weights
    assert weights[0].tolist() == (map_samples(samples)[1][0] > 0).astype(float).tolist()
    assert weights[1].min() == 1


def test_missing_pseudo_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no teacher-labels\.npz in .*; put it there or train without a teacher"):
        teacher_labels(tmp_path)
    (tmp_path / "own.json").touch()
    with pytest.raises(DataError, match=r"no teacher-labels\.npz in .*own\.json; .*data\.labels=ground_truth"):
        teacher_labels(tmp_path / "own.json")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_damaged_pseudo_labels_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*teacher-labels\.npz: .*; wanted arrays keys"):
        teacher_labels(tmp_path)


@pytest.mark.parametrize("change", [{"scores": np.zeros((2, 16))}, {"keypoints": np.zeros((3, 17, 2))}])
def test_pseudo_labels_of_wrong_shape_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save(tmp_path, **change)
    with pytest.raises(DataError, match="do not match"):
        teacher_labels(tmp_path)


def test_pseudo_labels_need_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, keys=np.array(["a"]), keypoints=np.zeros((1, 17, 2)))
    with pytest.raises(DataError, match="scores"):
        teacher_labels(tmp_path)


def test_real_lspet_labels_are_often_contradicted(shared: Path, real_samples: list[Sample]) -> None:
    """Persons whose labels a confident teacher contradicts most were removed from LSPET: few of its labels are left."""
    labels = teacher_labels(shared / "data/pose-train")
    assert set(labels) == {sample.key for sample in real_samples}
    keypoints, visibility = map_samples(real_samples)
    boxes = np.array([sample.box_xywh for sample in real_samples])
    noisy = np.array([sample.source in ("lspet", "lspetrest") for sample in real_samples])

    def shares(**how: float) -> list[float]:
        far = contradicted(keypoints, visibility, *pseudo_labels(real_samples, labels), boxes, **how)
        return [far[part].sum() / (visibility[part] > 0).sum() for part in (noisy, ~noisy)]

    of_lspet, of_others = shares()
    assert 0.08 < of_lspet < 0.13, "these get weight 0"
    assert 0.09 < of_others < 0.14
    of_lspet, of_others = shares(tolerance=0.15)
    assert 0 < of_lspet < 0.004
    assert 0.012 < of_others < 0.025
    of_lspet, of_others = shares(tolerance=0.15, threshold=-1)  # also where the teacher is not sure
    assert 0.025 < of_lspet < 0.05
    assert 0.035 < of_others < 0.07


def test_real_gaps_are_mostly_filled(shared: Path, real_samples: list[Sample]) -> None:
    folder, samples = shared / "data/pose-train", real_samples[::20]
    before = (map_samples(samples)[1] > 0).sum(1)
    after = coco_targets(samples, teacher_labels(folder)).weights > 0
    sports = np.array([sample.source in ("mpii", "lsp") for sample in samples])
    assert before[sports].mean() < 9
    assert after[sports].sum(1).mean() > 15
