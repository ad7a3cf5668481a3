import numpy as np

from featherpose.boxes import iou, nms, xywh_to_xyxy, xyxy_to_xywh


def test_formats_round_trip():
    boxes = [[1, 2, 30, 40], [-5, 0, 1, 1]]
    np.testing.assert_array_equal(xywh_to_xyxy(boxes)[0], [1, 2, 31, 42])
    np.testing.assert_array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)


def test_overlap():
    a = [[0, 0, 10, 10], [0, 0, 0, 0]]
    b = [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]
    np.testing.assert_allclose(iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]], atol=1e-7)


def test_suppression_keeps_the_best_first():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]]
    np.testing.assert_array_equal(nms(boxes, [0.5, 0.9, 0.7], 0.5), [1, 2])
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)
