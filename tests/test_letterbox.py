import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.letterbox import Fit, Letterbox
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


FITTED = [
    (Fit(shape="square"), (480, 640), (240, 320), (0, 0)),
    (Fit(shape="square", place="center"), (480, 640), (240, 320), (0, 40)),
    (Fit(shape="square", place="center"), (640, 477), (320, 238), (41, 0)),
    (Fit(shape="square", rounding="down"), (640, 479), (320, 239), (0, 0)),
    (Fit(shape="square"), (640, 479), (320, 240), (0, 0)),
    (Fit(shape="stretch"), (480, 640), (320, 320), (0, 0)),
]
FIT_IDS = ["square", "center", "odd padding", "rounded down", "rounded", "stretch"]


@pytest.mark.parametrize(("fit", "image", "scaled", "padding"), FITTED, ids=FIT_IDS)
def test_image_is_placed_as_the_fit_says(fit, image, scaled, padding):
    box = Letterbox.of(size_of(image), 320, fit)
    assert (box.size.shape, box.scaled_size.shape, (box.left, box.top)) == ((320, 320), scaled, padding)


def test_corners_differ_by_the_factor_alone():
    """As other projects divide: by one factor, whatever the rounding of the scaled sides."""
    box = Letterbox.of(size_of((641, 479)), 320, Fit(shape="square", place="center", points="corners"))
    np.testing.assert_allclose(box.to_image([[box.left, box.top]]), [[0, 0]], atol=1e-12)
    np.testing.assert_allclose(box.to_input([[479, 641]]), [[box.left + 479 * 320 / 641, 320]], atol=1e-9)


def test_unknown_word_of_a_fit_is_refused():
    with pytest.raises(InputError, match=r"shape of the letterbox is 'sqare'\. Did you mean 'square'"):
        Fit(shape="sqare")


def test_long_side_of_zero_is_refused():
    with pytest.raises(InputError, match="long side of the input is 0; wanted at least 1"):
        Letterbox.of(Size(height=10, width=10), 0)
