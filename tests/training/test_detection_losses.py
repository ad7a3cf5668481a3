"""Losses of the detector: hand-computed values, where gradients are zero, and that a network learns two images."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose import oks
from featherpose.boxes import iou
from featherpose.codecs import boxes
from featherpose.codecs.boxes import IGNORED, NO_BOX, PERSON
from featherpose.networks.feather_detect import STRIDES, BoxHead, DetectorNetwork, KeypointBranch, RawDetections
from featherpose.networks.fpn import FPN, Stages
from featherpose.networks.initialize import initialize
from featherpose.networks.layers import ConvUnit
from featherpose.nms import nms
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training.detection_losses import (
    FAR_WEIGHT,
    DetectionTargets,
    decode,
    detection_loss,
    giou,
    keypoint_loss,
    quality_focal,
)

pytestmark = pytest.mark.torch

SIZE = Size(height=64, width=96)
POINTS, POINT_STRIDES = boxes.points(SIZE, STRIDES)
P = len(POINTS)
PEOPLE = [[[10, 6, 40, 60], [50, 20, 70, 58]], [[60, 4, 90, 62], [5, 30, 17, 54]]]
"""Two persons in each of two images."""


def targets_of(labels=PEOPLE, kinds=None):
    """Boxes of two images (2, M, 4) -> targets with all keypoints labeled, at fixed places in the box."""
    boxes_xyxy = torch.tensor(labels, dtype=torch.float32).reshape(2, -1, 4)
    count = boxes_xyxy.shape[1]
    sides = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    places = torch.rand(17, 2, generator=torch.Generator().manual_seed(0))
    return DetectionTargets(
        boxes_xyxy=boxes_xyxy,
        kinds=torch.full((2, count), PERSON, dtype=torch.int8) if kinds is None else torch.tensor(kinds).char(),
        keypoints=boxes_xyxy[:, :, None, :2] + sides[:, :, None] * places,
        visibility=torch.full((2, count, 17), 2),
        areas=sides.prod(2) / 2,
        negative_weight=torch.ones(2),
    )


def untrained(seed=0):
    """Predictions of two images near an untrained network's, with gradients."""
    random = torch.Generator().manual_seed(seed)
    raw = RawDetections(
        torch.randn(2, P, generator=random) * 0.1 - 4.6,
        (torch.rand(2, P, 4, generator=random) + 1.5) * torch.from_numpy(POINT_STRIDES)[:, None],
        torch.from_numpy(POINTS)[:, None] + torch.randn(2, P, 17, 2, generator=random),
        torch.randn(2, P, 17, generator=random) * 0.1,
    )
    return RawDetections(*(tensor.requires_grad_() for tensor in raw))


def gradients(raw, targets):
    """Gradients of the loss by logits, distances, keypoints and visibility."""
    return torch.autograd.grad(detection_loss(raw, targets, SIZE), list(raw))


FOCAL = [
    pytest.param(0.5, 0.5, 0.0, id="score-equals-target"),
    pytest.param(0.5, 1.0, 0.25 * math.log(2), id="too-low"),
    pytest.param(0.9, 0.0, 0.81 * -math.log(0.1), id="false-positive"),
    pytest.param(0.2, 0.6, 0.16 * -(0.6 * math.log(0.2) + 0.4 * math.log(0.8)), id="soft-target"),
]


@pytest.mark.parametrize(("score", "quality", "loss"), FOCAL)
def test_quality_focal_loss_by_hand(score, quality, loss):
    logit = torch.tensor(math.log(score / (1 - score)))
    assert quality_focal(logit, torch.tensor(quality)).item() == pytest.approx(loss, rel=1e-5, abs=1e-7)


GIOU = [
    pytest.param([0, 0, 10, 10], [0, 0, 10, 10], 0, id="equal"),
    pytest.param([0, 0, 10, 10], [0, 0, 20, 10], 1 - 0.5, id="half"),
    pytest.param([0, 0, 10, 10], [5, 5, 15, 15], 1 - 25 / 175 + 50 / 225, id="shifted"),
    pytest.param([0, 0, 10, 10], [30, 0, 40, 10], 1 + 200 / 400, id="apart"),
    pytest.param([5, 5, 5, 5], [5, 5, 5, 5], 1, id="both-empty"),
]


@pytest.mark.parametrize(("box", "other", "loss"), GIOU)
def test_giou_loss_by_hand(box, other, loss):
    a, b = (torch.tensor([sides], dtype=torch.float32) for sides in (box, other))
    assert giou(a, b).item() == pytest.approx(loss)
    assert giou(b, a).item() == pytest.approx(loss)


def test_giou_pulls_separate_boxes_together():
    box = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    (gradient,) = torch.autograd.grad(giou(box, torch.tensor([[30.0, 0, 40, 10]])).sum(), box)
    assert gradient[0, 2] < 0


def test_keypoint_loss_is_oks_of_labeled_keypoints():
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 60, (4, 17, 2)).astype(np.float32)
    found = labels + rng.normal(0, 2, labels.shape).astype(np.float32)
    visibility = rng.integers(0, 3, (4, 17))
    visibility[1] = 0
    areas = np.float32([900, 900, 400, 100])
    certain = torch.from_numpy(np.where(visibility > 0, 50, -50)).float()  # no cross entropy
    arrays = [torch.from_numpy(array) for array in (labels, visibility, areas)]
    loss = keypoint_loss(torch.from_numpy(found), certain, *arrays, COCO17.sigmas).numpy()
    labeled = visibility > 0
    similarity = [
        oks.oks(f[v], a[v][None], s, np.array(COCO17.sigmas)[v])[0] if v.any() else 1
        for f, a, s, v in zip(found, labels, areas, labeled, strict=True)
    ]
    scaled = ((found - labels) ** 2).sum(2) / (2 * areas[:, None] * (2 * np.array(COCO17.sigmas)) ** 2)
    far = (np.log1p(scaled) * labeled).sum(1) / np.maximum(labeled.sum(1), 1)
    np.testing.assert_allclose(loss, 1 - np.array(similarity) + FAR_WEIGHT * far, rtol=1e-4)


def test_far_keypoint_still_has_a_gradient():
    found = torch.zeros(1, 17, 2, requires_grad=True)
    labels = torch.full((1, 17, 2), 200.0)
    loss = keypoint_loss(found, torch.zeros(1, 17), labels, torch.ones(1, 17), torch.tensor([400.0]), COCO17.sigmas)
    loss.sum().backward()
    assert (found.grad < 0).all()


def test_visibility_loss_is_mean_cross_entropy():
    exact = torch.zeros(1, 17, 2)
    visibility = torch.tensor([[1] * 10 + [0] * 7])
    loss = keypoint_loss(exact, torch.zeros(1, 17), exact, visibility, torch.ones(1), COCO17.sigmas)
    assert loss.item() == pytest.approx(math.log(2))


def test_decode_equals_the_codec():
    distances = np.random.default_rng(0).random((2, P, 4), np.float32)
    decoded = decode(torch.from_numpy(POINTS), torch.from_numpy(distances))
    np.testing.assert_array_equal(decoded, boxes.decode(POINTS, distances))


def perfect(targets, count=10):
    """Predictions that equal the labels at the points assigned to a person, with scores of 0.999 there."""
    raw = RawDetections(*(tensor.detach().clone() for tensor in untrained()))
    raw.logits.fill_(-12)
    for image, labels in enumerate(targets.boxes_xyxy.numpy()):
        for person, box in enumerate(labels):
            inside = np.flatnonzero((boxes.encode(POINTS, box) > 0).all(axis=1))[:count]
            raw.logits[image, inside] = 7
            raw.distances[image, inside] = torch.from_numpy(boxes.encode(POINTS[inside], box))
            raw.keypoints[image, inside] = targets.keypoints[image, person]
            raw.visibility[image, inside] = 12
    return raw


WORSE = [
    pytest.param("logits", lambda x: x.clamp(max=0), id="less-certain"),
    pytest.param("logits", lambda x: x.clamp(min=-1), id="background-found"),
    pytest.param("distances", lambda x: x * 1.2, id="boxes-too-large"),
    pytest.param("keypoints", lambda x: x + 2, id="keypoints-shifted"),
    pytest.param("visibility", lambda x: -x, id="visibility-wrong"),
]


@pytest.mark.parametrize(("field", "change"), WORSE)
def test_perfect_predictions_have_smallest_loss(field, change):
    targets = targets_of()
    raw = perfect(targets)
    smallest = detection_loss(raw, targets, SIZE)
    assert 0 <= smallest < 0.01
    assert detection_loss(raw._replace(**{field: change(getattr(raw, field))}), targets, SIZE) > smallest + 0.01


@pytest.mark.parametrize("labels", [[[], []], PEOPLE], ids=["no-rows", "only-padding"])
def test_images_without_people_only_lower_the_scores(labels):
    targets = targets_of(labels, None if not labels[0] else [[NO_BOX] * 2] * 2)
    logits, distances, keypoints, visibility = gradients(untrained(), targets)
    assert (logits > 0).all()
    assert distances.count_nonzero() == keypoints.count_nonzero() == visibility.count_nonzero() == 0


def test_ignored_regions_have_zero_gradient():
    targets = targets_of(kinds=[[PERSON, IGNORED], [PERSON, IGNORED]])
    logits, *_ = gradients(untrained(), targets)
    for image, (_, ignored) in enumerate(PEOPLE):
        inside = (boxes.encode(POINTS, ignored) > 0).all(axis=1)
        assert inside.sum() > 3
        assert (logits[image].numpy()[inside] == 0).all()
        assert (logits[image].numpy()[~inside] != 0).all()


def test_negative_weight_scales_background_of_one_image():
    targets = targets_of([[], []])
    whole = gradients(untrained(), targets)[0]
    half = gradients(untrained(), targets._replace(negative_weight=torch.tensor([0.5, 1])))[0]
    torch.testing.assert_close(half[0], whole[0] / 2)
    torch.testing.assert_close(half[1], whole[1])


def test_person_without_keypoints_learns_only_its_box():
    targets = targets_of()
    targets.visibility[0] = 0
    _, distances, keypoints, visibility = gradients(untrained(), targets)
    assert keypoints[0].count_nonzero() == visibility[0].count_nonzero() == 0
    assert min(tensor[1].count_nonzero() for tensor in (keypoints, visibility)) > 0
    assert distances[0].count_nonzero() > 0


def test_detector_without_keypoint_branch_has_a_loss():
    targets = targets_of()
    raw = perfect(targets)._replace(keypoints=None, visibility=None)
    assert 0 <= detection_loss(raw, targets, SIZE) < 0.01


def test_sixty_overlapping_people_have_finite_gradients():
    corners = np.random.default_rng(0).uniform(0, 60, (2, 60, 2))
    targets = targets_of(np.concatenate([corners, corners + 20], axis=2).tolist())
    assert all(gradient.isfinite().all() for gradient in gradients(untrained(), targets))


def test_same_input_gives_bit_equal_gradients():
    first, second = (gradients(untrained(), targets_of()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


STEPS = 60


def tiny_detector():
    stages = [ConvUnit(3, 16, 3, stride=2), *(ConvUnit(16, 16, 3, stride=2) for _ in range(4))]
    branch = KeypointBranch(16, 17, STRIDES)
    network = DetectorNetwork(Stages(stages), FPN((16, 16, 16), 16), BoxHead(16, STRIDES), branch)
    initialize(network)
    return network


def two_images():
    """(2, 3, 64, 96): noise with a bright rectangle for each person."""
    images = torch.randn(2, 3, *SIZE.shape, generator=torch.Generator().manual_seed(0)) / 10
    for image, labels in zip(images, PEOPLE, strict=True):
        for left, top, right, bottom in labels:
            image[:, top : bottom + 1, left : right + 1] += 1
    return images


def test_tiny_network_overfits_two_images():
    """After NMS, two persons remain in each image: boxes of IoU above 0.8 and keypoints of OKS above 0.9."""
    torch.manual_seed(0)
    network, images, targets = tiny_detector(), two_images(), targets_of()
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        raw = network(images)
        detection_loss(raw, targets, SIZE).backward()
        optimizer.step()
        schedule.step()
    found_xyxy = decode(torch.from_numpy(POINTS), raw.distances).detach().numpy()
    for image, labels in enumerate(PEOPLE):
        scores = raw.logits[image].detach().sigmoid().numpy()
        kept = [i for i in nms(found_xyxy[image], scores, 0.5) if scores[i] > 0.5]
        assert len(kept) == 2
        overlap = iou(labels, found_xyxy[image, kept])
        assert overlap.max(axis=1).min() > 0.8
        for person, row in enumerate(overlap.argmax(axis=1)):
            keypoints = raw.keypoints[image, kept[row]].detach().numpy()
            labeled = targets.keypoints[image, person].numpy()
            area = targets.areas[image, person].item()
            assert oks.oks(keypoints, labeled[None], area, COCO17.sigmas)[0] > 0.9
