from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.boxes import xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.errors import InputError
from featherpose.size import Size

SIZE = Size(height=256, width=192)
SIZES = {"256x192": SIZE, "384x288": Size(height=384, width=288)}


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize(("mode", "published_name"), [("msra", "official"), ("udp", "udp")])
@pytest.mark.parametrize("i", range(6))
def test_matrices_and_points_equal_published(parity, tag, mode, published_name, i):
    with np.load(parity / "codecs.npz") as published:
        box, angle = published["boxes_xywh"][i], float(published["rotations"][i])
        upright = Crop.from_box(xywh_to_xyxy(box), SIZES[tag], mode)
        crop = replace(upright, rotation=angle)
        keypoints = published["tf_keypoints_image"][i]
        np.testing.assert_allclose(crop.matrix, published[f"tf_{tag}_matrix_{published_name}"][i], atol=1e-4)
        np.testing.assert_allclose(
            crop.to_crop(keypoints), published[f"tf_{tag}_keypoints_{published_name}"][i], atol=1e-4
        )
        np.testing.assert_allclose(np.array(upright.extent) / 200, published[f"tf_{tag}_scale"][i], atol=1e-6)


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize("i", range(6))
def test_inverse_transform_equals_published(parity, tag, i):
    with np.load(parity / "codecs.npz") as published:
        crop = Crop.from_box(xywh_to_xyxy(published["boxes_xywh"][i]), SIZES[tag])
        image = crop.to_image(published[f"tf_{tag}_back_input_heatmap"][i] * 4)
        np.testing.assert_allclose(image, published[f"tf_{tag}_back_official_image"][i], atol=2e-3)


coordinates = st.floats(-500, 2000)
crops = st.builds(
    Crop,
    center=st.tuples(coordinates, coordinates),
    extent=st.floats(10, 3000).map(lambda width: (width, width * 4 / 3)),
    size=st.just(SIZE),
    mode=st.sampled_from(["msra", "udp"]),
    rotation=st.floats(-180, 180),
    flip=st.booleans(),
)


@given(crops, coordinates, coordinates)
def test_to_image_inverts_to_crop(crop, x, y):
    np.testing.assert_allclose(crop.to_image(crop.to_crop([x, y])), [x, y], atol=1e-5)


@given(crops, coordinates, coordinates)
def test_flip_mirrors_crop_coordinates(crop, x, y):
    there, mirrored = (replace(crop, flip=flip).to_crop([x, y]) for flip in (False, True))
    np.testing.assert_allclose(mirrored, [191 - there[0], there[1]], atol=1e-6)


def test_a_shifted_box_gives_a_shifted_crop():
    a, b = Crop.from_box([10, 20, 60, 140], SIZE), Crop.from_box([17, 9, 67, 129], SIZE)
    np.testing.assert_allclose(a.to_crop([30, 40]), b.to_crop([37, 29]))


@pytest.mark.parametrize(
    ("box", "message"),
    [([5, 5, 5, 9], "has no area"), ([9, 5, 5, 9], "has no area"), ([float("nan"), 5, 5, 9], "has no area")],
    ids=["empty", "reversed", "not a number"],
)
def test_a_box_without_area_is_refused(box, message):
    with pytest.raises(InputError, match=message):
        Crop.from_box(box, SIZE)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="'dark' is unknown; wanted one of msra, udp"):
        Crop((0, 0), (3, 4), SIZE, mode="dark")
