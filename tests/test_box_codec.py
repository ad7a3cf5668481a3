import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.codecs.boxes import decode, encode, points
from featherpose.size import Size

SIZE = Size(height=64, width=96)
STRIDES = (8, 16, 32)
SIDES = st.floats(-500, 1500, width=32)


def test_points_are_centers_of_cells_row_by_row():
    placed, strides = points(SIZE, (16, 32))
    assert (placed.shape, placed.dtype) == ((4 * 6 + 2 * 3, 2), np.float32)
    np.testing.assert_array_equal(placed[[0, 1, 6, 23]], [[7.5, 7.5], [23.5, 7.5], [7.5, 23.5], [87.5, 55.5]])
    np.testing.assert_array_equal(placed[24:], [[x, y] for y in (15.5, 47.5) for x in (15.5, 47.5, 79.5)])
    np.testing.assert_array_equal(strides, [16] * 24 + [32] * 6)


def test_mean_of_points_is_center_of_image():
    for stride in STRIDES:
        np.testing.assert_array_equal(points(SIZE, (stride,))[0].mean(axis=0), [(96 - 1) / 2, (64 - 1) / 2])


ENCODED = [
    pytest.param(np.zeros((0, 2)), np.zeros((0, 4)), np.zeros((0, 4)), id="no-points"),
    pytest.param([10, 20], [4, 5, 30, 60], [6, 15, 20, 40], id="inside"),
    pytest.param([10, 20], [10, 20, 30, 60], [0, 0, 20, 40], id="on-the-corner"),
    pytest.param([0, 20], [4, 5, 30, 60], [-4, 15, 30, 40], id="outside-is-negative"),
]


@pytest.mark.parametrize(("point", "box", "distances"), ENCODED)
def test_distances_are_left_top_right_bottom(point, box, distances):
    np.testing.assert_array_equal(encode(point, box), distances)
    assert encode(point, box).dtype == np.float32


@given(st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=4))
def test_decode_inverts_encode_at_every_point(boxes):
    """Of boxes (M, 1, 4) at points (P, 2): distances (M, P, 4)."""
    boxes_xyxy = np.float32(boxes)[:, None]
    placed, _ = points(SIZE, STRIDES)
    decoded = decode(placed, encode(placed, boxes_xyxy))
    np.testing.assert_allclose(decoded, np.broadcast_to(boxes_xyxy, decoded.shape), atol=1e-3)
