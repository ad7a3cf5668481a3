import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.codecs import CODECS, Msra, merge_flipped, smooth
from featherpose.skeleton import COCO17

SIZES = {"256x192": (192, 256), "384x288": (288, 384)}


@pytest.fixture(scope="module")
def published(shared):
    with np.load(shared / "parity" / "codecs.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize(("form", "unbiased"), [("msra", False), ("unbiased_mmpose", True)])
def test_targets_equal_the_published_ones(published, tag, form, unbiased):
    codec = Msra(SIZES[tag], unbiased=unbiased)
    heatmaps, weights = codec.encode(published[f"enc_{tag}_joints"], published[f"enc_{tag}_visible"])
    flat = heatmaps.reshape(40, -1)
    samples = np.take_along_axis(flat, published[f"enc_{tag}_{form}_idx"], axis=1)
    np.testing.assert_array_equal(weights, published[f"enc_{tag}_{form}_weight"])
    np.testing.assert_allclose(samples, published[f"enc_{tag}_{form}_val"], atol=2e-6)
    np.testing.assert_allclose(flat.sum(1), published[f"enc_{tag}_{form}_sum"], atol=1e-5)


def test_whole_target_maps_equal_the_published_ones(published):
    heatmaps, _ = Msra((192, 256)).encode(published["enc_256x192_joints"], published["enc_256x192_visible"])
    np.testing.assert_allclose(heatmaps, published["enc_256x192_msra"], atol=2e-6)


@pytest.mark.parametrize("tag", SIZES)
def test_quarter_offset_equals_the_published_decoding(published, tag):
    keypoints, scores = Msra(SIZES[tag]).decode(published[f"dec_{tag}_heatmaps_i16"].astype(np.float32) / 4096)
    np.testing.assert_array_equal(keypoints / 4, published[f"dec_{tag}_quarter_hrnet_heatmap"])
    np.testing.assert_array_equal(scores, published[f"dec_{tag}_maxval"])


@pytest.mark.parametrize("tag", SIZES)
def test_post_gaussian_filter_equals_the_published_blur(published, tag):
    heatmaps = published[f"dec_{tag}_heatmaps_i16"].astype(np.float32) / 4096
    samples = np.take_along_axis(smooth(heatmaps).reshape(71, -1), published[f"dec_{tag}_blur_idx"], axis=1)
    wanted = np.nan_to_num(published[f"dec_{tag}_blur_val_mmpose"])  # a map of zeros gives NaN there and zeros here
    np.testing.assert_allclose(samples, wanted, atol=2e-6)


@pytest.mark.parametrize(("name", "shift"), [("noshift", False), ("shift", True)])
def test_flip_test_equals_the_published_merge(published, name, shift):
    a, b = (published[f"flip_{side}_i16"].astype(np.float32) / 4096 for side in "ab")
    merged = merge_flipped(a, b, COCO17.flip_order, shift)
    np.testing.assert_array_equal(merged * 8192, published[f"flip_merged_{name}_i32"])


@pytest.mark.parametrize("name", CODECS)
class TestEveryCodec:
    @given(
        st.floats(16, 175, allow_nan=False), st.floats(16, 239, allow_nan=False), st.booleans()
    )  # 4 cells from the border
    def test_decoding_finds_what_was_encoded(self, name, x, y, unbiased):
        codec = CODECS[name]((192, 256), unbiased=unbiased)
        heatmaps, _ = codec.encode([[x, y]], [1])
        keypoints, scores = codec.decode(heatmaps)
        assert np.abs(keypoints - [[x, y]]).max() <= codec.stride * (0.5 if not unbiased else 0.25) + 1e-4
        assert 0.88 < scores[0] <= 1

    def test_nobody(self, name):
        codec = CODECS[name]((192, 256))
        heatmaps, weights = codec.encode(np.zeros((0, 17, 2)), np.zeros((0, 17)))
        assert heatmaps.shape == (0, 17, 64, 48)
        assert weights.shape == (0, 17)
        assert codec.decode(heatmaps)[0].shape == (0, 17, 2)

    @pytest.mark.parametrize(
        ("point", "visible", "weight"),
        [
            ((96, 128), 0, 0),
            ((96, 128), 1, 1),
            ((0, 0), 2, 1),
            ((191, 255), 2, 1),
            ((-60, 20), 2, 0),
            ((20, 400), 2, 0),
        ],
        ids=["unlabelled", "hidden", "first pixel", "last pixel", "left of it", "below it"],
    )
    def test_weights(self, name, point, visible, weight):
        heatmaps, weights = CODECS[name]((192, 256)).encode([point], [visible])
        assert weights == [weight]
        assert (heatmaps.max() > 0) == bool(weight)

    def test_mirrored_joints_give_mirrored_maps(self, name):
        codec = CODECS[name]((192, 256))
        points = np.random.default_rng(0).integers(0, 48, (17, 2)) * 4.0
        mirrored = (codec.heatmap_size[0] - 1) * 4 - points[:, 0], points[:, 1]
        a, _ = codec.encode(points, np.ones(17))
        b, _ = codec.encode(np.stack(mirrored, axis=-1)[COCO17.flip_order], np.ones(17))
        np.testing.assert_array_equal(a, b[COCO17.flip_order][..., ::-1])


def test_moving_a_joint_by_a_cell_moves_its_map():
    codec = Msra((192, 256))
    a, _ = codec.encode([[80, 120]], [1])
    b, _ = codec.encode([[84, 116]], [1])
    np.testing.assert_array_equal(np.roll(a, (-1, 1), axis=(-2, -1)), b)
