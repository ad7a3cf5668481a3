"""Task-aligned assignment: hand-computed targets, contested points, tiny and crowded people, ignored regions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.boxes import iou
from featherpose.codecs.boxes import IGNORED, NO_BOX, PERSON, encode, points
from featherpose.size import Size
from featherpose.training.assign import SMALLEST_TARGET, assign, pairwise_iou

pytestmark = pytest.mark.torch

SIZE = Size(height=256, width=192)
POINTS, STRIDES = map(torch.from_numpy, points(SIZE, (8, 16, 32)))
P = len(POINTS)


def boxes_around_points(half_side=1.0):
    """(1, P, 4): a box around every point; half the side in strides."""
    reach = (half_side * STRIDES)[:, None]
    return torch.cat((POINTS - reach, POINTS + reach), 1)[None]


def assign_image(labels, kinds=None, *, scores=0.01, predicted=None):
    """Labels (M, 4) of one image -> assignment; by default, with the predictions of an untrained network."""
    labels = torch.tensor(labels, dtype=torch.float32).reshape(1, -1, 4)
    kinds = torch.tensor([kinds or [PERSON] * labels.shape[1]], dtype=torch.int8).reshape(1, -1)
    predicted = boxes_around_points() if predicted is None else predicted
    return assign(torch.as_tensor(scores).expand(1, P), predicted, POINTS, STRIDES, labels, kinds)


def points_inside(box):
    return torch.from_numpy((encode(POINTS, box) > 0).all(axis=1))


def counts_of(result, persons):
    return [int((result.persons == m).sum()) for m in range(persons)]


@pytest.mark.parametrize("kinds", [[], [NO_BOX, NO_BOX]], ids=["no-rows", "only-padding"])
def test_without_people_all_points_are_background(kinds):
    result = assign_image([[0, 0, 90, 90]] * len(kinds), kinds)
    assert (result.persons == -1).all()
    assert (result.quality == 0).all()
    assert (result.weights == 1).all()


def test_targets_are_scaled_alignment_by_hand():
    """Three points in one box: alignment = score * IoU^6, the largest becomes the largest IoU; a fourth is outside."""
    four = torch.tensor([[10.0, 10], [20, 10], [30, 10], [60, 10]])
    label = torch.tensor([[[0.0, 0, 40, 20]]])
    # IoU 20 x 20 / 800 = 0.5, 30 x 20 / 800 = 0.75 and 1
    predicted = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 30, 20], [0, 0, 40, 20], [0, 0, 40, 20]]])
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.9]])
    result = assign(scores, predicted, four, torch.full((4,), 8.0), label, torch.tensor([[PERSON]], dtype=torch.int8))
    alignment = np.array([0.9 * 0.5**6, 0.8 * 0.75**6, 0.1])
    assert result.persons.tolist() == [[0, 0, 0, -1]]
    np.testing.assert_allclose(result.quality[0, :3], alignment / alignment[[1]], rtol=1e-5)
    assert result.quality[0, 3] == 0


def test_ten_points_with_best_alignment_learn_a_person():
    label = [40, 60, 120, 220]
    scores = torch.rand(1, P, generator=torch.Generator().manual_seed(0))
    predicted = torch.tensor(label, dtype=torch.float32).expand(1, P, 4)
    result = assign_image([label], scores=scores, predicted=predicted)
    inside = points_inside(label)
    best = torch.where(inside, scores[0], -1).topk(10).indices
    assert sorted(best.tolist()) == result.persons[0].add(1).nonzero()[:, 0].tolist()
    torch.testing.assert_close(result.quality[0, best], scores[0, best] / scores[0, best].max())


def test_contested_point_goes_to_larger_iou():
    one = torch.tensor([[15.0, 15]])
    labels = torch.tensor([[[0.0, 0, 40, 40], [10, 10, 30, 30]]])
    kinds = torch.full((1, 2), PERSON, dtype=torch.int8)
    for predicted, person in (([0.0, 0, 38, 40], 0), ([10.0, 10, 30, 31], 1)):
        result = assign(torch.tensor([[0.5]]), torch.tensor([[predicted]]), one, torch.tensor([8.0]), labels, kinds)
        assert result.persons.tolist() == [[person]]


PEOPLE = [
    pytest.param([[30, 20, 160, 240]], id="one-large"),
    pytest.param([[56.6, 56.6, 62.6, 62.6]], id="6-px-between-the-points"),
    pytest.param([[-40, -40, -2, -2]], id="outside-the-image"),
    pytest.param([[30, 20, 90, 200], [30, 20, 90, 200]], id="twice-the-same-box"),
    pytest.param([[0, 0, 192, 256], [66, 100, 72, 106]], id="tiny-in-front-of-large"),
    pytest.param([[20 * i, 42 * j, 20 * i + 18, 42 * j + 40] for i in range(9) for j in range(6)], id="54-in-rows"),
    pytest.param([[4 * i, 3 * i, 4 * i + 25, 3 * i + 60] for i in range(40)], id="40-in-a-queue"),
]
PREDICTED = [
    pytest.param(2.0, id="initial-boxes"),
    pytest.param(1e-6, id="empty-boxes"),
    pytest.param(50.0, id="huge-boxes"),
]


@pytest.mark.parametrize("labels", PEOPLE)
@pytest.mark.parametrize("half_side", PREDICTED)
def test_untrained_network_gives_every_person_points(labels, half_side):
    result = assign_image(labels, predicted=boxes_around_points(half_side))
    counts = counts_of(result, len(labels))
    assert 1 <= min(counts) <= max(counts) <= 10
    largest = [result.quality[result.persons == m].max().item() for m in range(len(labels))]
    assert min(largest) >= 0.999 * SMALLEST_TARGET
    assert (result.quality[result.persons == -1] == 0).all()


def test_tiny_person_gets_nearest_of_finest_points():
    result = assign_image([[56.6, 56.6, 62.6, 62.6]])
    (index,) = (result.persons[0] >= 0).nonzero()[:, 0].tolist()
    assert (POINTS[index].tolist(), STRIDES[index]) == ([59.5, 59.5], 8)


def test_points_in_ignored_boxes_have_no_weight():
    """Unless they learn a person who stands in the ignored box."""
    ignored, person = [30, 30, 150, 200], [60, 60, 100, 180]
    result = assign_image([ignored, person], [IGNORED, PERSON])
    inside = points_inside(ignored)
    assert counts_of(result, 2) == [0, 10]
    torch.testing.assert_close(result.weights[0] == 0, inside & (result.persons[0] == -1))


def test_assignment_is_independent_of_padding_and_batch():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 120, (2, 3, 2))
    labels = np.concatenate([corners, corners + rng.uniform(20, 100, (2, 3, 2))], axis=2)
    scores = torch.from_numpy(rng.random((2, P), np.float32))
    padded = torch.zeros(2, 8, 4)
    padded[:, [1, 4, 6]] = torch.from_numpy(labels).float()
    kinds = torch.zeros(2, 8, dtype=torch.int8)
    kinds[:, [1, 4, 6]] = PERSON
    together = assign(scores, boxes_around_points(3).expand(2, P, 4), POINTS, STRIDES, padded, kinds)
    rows = torch.tensor([1, 4, 6, -1])  # -1: background
    for image in range(2):
        alone = assign_image(labels[image], scores=scores[image], predicted=boxes_around_points(3))
        assert torch.equal(rows[alone.persons[0]], together.persons[image])
        torch.testing.assert_close(alone.quality[0], together.quality[image])


def test_pairwise_iou_equals_numpy():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.integers(0, 20, (n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) for n in (6, 9))
    np.testing.assert_allclose(pairwise_iou(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0], iou(a, b))
