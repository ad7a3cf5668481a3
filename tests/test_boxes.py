import numpy as np
import pytest

from featherpose.boxes import BOX_MARGINS, box_of_keypoints, iou, jitter_boxes, xywh_to_xyxy, xyxy_to_xywh
from featherpose.nms import nms


def test_box_formats_round_trip():
    boxes = [[1, 2, 30, 40], [-5, 0, 1, 1]]
    np.testing.assert_array_equal(xywh_to_xyxy(boxes)[0], [1, 2, 31, 42])
    np.testing.assert_array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)


def test_iou_of_overlapping_and_empty_boxes():
    a = [[0, 0, 10, 10], [0, 0, 0, 0]]
    b = [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]
    np.testing.assert_allclose(iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]], atol=1e-7)


def test_nms_keeps_the_best_box_first():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]]
    np.testing.assert_array_equal(nms(boxes, [0.5, 0.9, 0.7], 0.5), [1, 2])
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


def test_jitter_is_independent_per_side():
    boxes = np.tile(np.float32([[100, 200, 140, 400]]), (4000, 1))
    off = jitter_boxes(boxes, 0.1, np.random.default_rng(0))
    errors = (off - boxes) / (40, 200, 40, 200)
    assert off.dtype == np.float32
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(errors.std(axis=0), 0.1 * 0.94, atol=0.01)  # 0.94: effect of clipping at 2 sigma
    assert 0.199 < np.abs(errors).max() < 0.2001
    np.testing.assert_allclose(np.corrcoef(errors.T), np.eye(4), atol=0.06)


def test_jittered_boxes_contain_their_center():
    boxes = np.tile(np.float32([[0, 0, 10, 90]]), (4000, 1))
    left, top, right, bottom = jitter_boxes(boxes, 0.249, np.random.default_rng(1)).T
    assert (left < 5).all() and (right > 5).all() and (top < 45).all() and (bottom > 45).all()


def test_jitter_scales_with_the_amount():
    boxes = np.float32([[1.5, 2, 30, 40], [-5, 0, 1, 1]])
    assert np.array_equal(jitter_boxes(boxes, 0.0, np.random.default_rng(0)), boxes)
    small, large = (jitter_boxes(boxes, amount, np.random.default_rng(0)) - boxes for amount in (0.1, 0.2))
    np.testing.assert_allclose(2 * small, large, rtol=1e-4)
    assert jitter_boxes(np.zeros((0, 4)), 0.1, np.random.default_rng(0)).shape == (0, 4)


def test_box_of_keypoints_adds_margins():
    keypoints, confident = [[10, 20], [50, 20], [30, 120], [900, 900], [-900, -900]], [True, True, True, False, False]
    box = box_of_keypoints(keypoints, confident)
    np.testing.assert_allclose(box, [10 - 7, 20 - 14, 50 + 7, 120 + 9], rtol=1e-6)
    assert box.dtype == np.float32
    wide = box_of_keypoints(np.array(keypoints)[:, ::-1], confident)
    np.testing.assert_allclose(wide, [20 - 7, 10 - 14, 120 + 7, 50 + 9], rtol=1e-6)


@pytest.mark.parametrize(("number", "enough"), [(0, False), (8, False), (9, True), (17, True)])
def test_box_needs_half_of_the_keypoints(number, enough):
    keypoints = np.random.default_rng(0).uniform(0, 100, (17, 2))
    assert (box_of_keypoints(keypoints, np.arange(17) < number) is not None) == enough


def test_keypoints_on_a_line_give_no_box():
    line = np.column_stack([np.full(17, 5), np.arange(17)])
    assert box_of_keypoints(line, np.ones(17)) is None
    assert box_of_keypoints(np.zeros((17, 2)), np.ones(17)) is None


@pytest.mark.slow
def test_margins_match_annotated_boxes(shared):
    """On persons of the validation set, which were not used to determine the margins."""
    from featherpose.data.sample import is_validation
    from featherpose.data.shards import read_index

    errors = []
    for person in read_index(shared / "data/pose-train"):
        labeled = person.visibility > 0
        if person.source == "coco" and is_validation(person.image) and labeled.sum() >= 9:
            box, side = xywh_to_xyxy(person.box_xywh), max(np.ptp(person.keypoints[labeled], axis=0))
            errors.append((box_of_keypoints(person.keypoints, labeled) - box) / side)
    assert len(errors) > 300
    np.testing.assert_allclose(np.median(errors, axis=0), 0, atol=0.015)
    assert (np.abs(BOX_MARGINS) > 0.05).all()
