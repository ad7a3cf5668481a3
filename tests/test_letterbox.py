import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.size import Size

CASES = [
    ("nothing to do", (416, 320), 416, (416, 320), (416, 320)),
    ("padded below", (312, 416), 416, (312, 416), (320, 416)),
    ("padded on the right", (416, 278), 416, (416, 278), (416, 288)),
    ("shrunk", (480, 640), 320, (240, 320), (256, 320)),
    ("enlarged", (30, 40), 320, (240, 320), (256, 320)),
    ("square", (100, 100), 64, (64, 64), (64, 64)),
    ("one pixel", (1, 1), 32, (32, 32), (32, 32)),
    ("narrow: at least one pixel", (2, 4000), 320, (1, 320), (32, 320)),
    ("long side not a multiple of 32", (100, 200), 100, (50, 100), (64, 128)),
]


def size_of(shape: tuple[int, int]) -> Size:
    return Size(height=shape[0], width=shape[1])


@pytest.mark.parametrize(
    ("image", "long_side", "scaled", "padded"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_sides_are_scaled_and_padded_to_32(image, long_side, scaled, padded):
    box = Letterbox.of(size_of(image), long_side)
    assert (box.scaled_size.shape, box.size.shape) == (scaled, padded)
    assert box.factor == long_side / max(image)


@pytest.mark.parametrize(("image", "long_side"), [row[1:3] for row in CASES], ids=[row[0] for row in CASES])
def test_image_corners_are_the_input_corners(image, long_side):
    """Outer corners of the image's first and last pixel, and back; the matrix says the same as `to_input`."""
    box = Letterbox.of(size_of(image), long_side)
    corners = np.array([(-0.5, -0.5), np.subtract(box.image_size.xy, 0.5)])
    expected = [(-0.5, -0.5), np.subtract(box.scaled_size.xy, 0.5)]
    np.testing.assert_allclose(box.to_input(corners), expected, atol=1e-9)
    np.testing.assert_allclose(box.to_image(expected), corners, atol=1e-9)
    np.testing.assert_allclose(corners @ box.matrix[:, :2].T + box.matrix[:, 2], expected, atol=1e-9)


def test_long_side_of_zero_is_refused():
    with pytest.raises(InputError, match="long side of the input is 0; wanted at least 1"):
        Letterbox.of(Size(height=10, width=10), 0)
