import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Dark, Msra, Udp, blur, gaussian_filter, merge_flipped, newton_step
from featherpose.crop import Crop
from featherpose.size import Size
from featherpose.skeleton import COCO17

SIZE = Size(height=256, width=192)
SIZES = {"256x192": SIZE, "384x288": Size(height=384, width=288)}
OUTSIDE = ["flat_zero", "all_negative", "max_zero_else_negative"]
"""Maps without a cell above 0, for which the published code reads outside the map or returns (-1, -1)."""


@pytest.fixture(scope="module")
def published(parity):
    with np.load(parity / "codecs.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def usual(parity):
    """tag -> (71,) bool, which of the published maps have a cell above 0."""
    names = json.loads((parity / "codecs.json").read_text())
    return {tag: ~np.isin(names[f"dec_{tag}_names"], OUTSIDE) for tag in SIZES}


def maps_of(published, tag):
    return published[f"dec_{tag}_heatmaps_i16"].astype(np.float32) / 4096


ENCODED = [(Msra, {}, "msra"), (Msra, {"unbiased": True}, "unbiased_mmpose"), (Dark, {}, "unbiased_mmpose")]
ENCODED += [(Udp, {}, "udp")]


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize(("kind", "options", "form"), ENCODED, ids=["msra", "unbiased", "dark", "udp"])
def test_targets_equal_published_samples(published, tag, kind, options, form):
    codec = kind(SIZES[tag], **options)
    heatmaps, weights = codec.encode(published[f"enc_{tag}_joints"], published[f"enc_{tag}_visible"])
    flat = heatmaps.reshape(40, -1)
    samples = np.take_along_axis(flat, published[f"enc_{tag}_{form}_idx"], axis=1)
    np.testing.assert_array_equal(weights, published[f"enc_{tag}_{form}_weight"])
    np.testing.assert_allclose(samples, published[f"enc_{tag}_{form}_val"], atol=2e-6)
    np.testing.assert_allclose(flat.sum(1), published[f"enc_{tag}_{form}_sum"], atol=1e-5)


@pytest.mark.parametrize(("kind", "options", "form"), ENCODED, ids=["msra", "unbiased", "dark", "udp"])
def test_target_maps_equal_published_maps(published, kind, options, form):
    keypoints, visible = published["enc_256x192_joints"], published["enc_256x192_visible"]
    heatmaps, _ = kind(SIZE, **options).encode(keypoints, visible)
    rows = published.get(f"enc_256x192_{form}_joints", np.arange(40))
    np.testing.assert_allclose(heatmaps[rows], published[f"enc_256x192_{form}"], atol=2e-6)


@pytest.mark.parametrize("tag", SIZES)
def test_dark_targets_equal_the_authors_code(published, tag):
    """Their keypoints are in cells. One is 7.4 cells left of the map: they round towards 0 and keep it, mmpose not."""
    keypoints = published[f"enc_{tag}_joints_heatmap_dark"]
    heatmaps, weights = Dark(SIZES[tag]).encode(keypoints * 4, published[f"enc_{tag}_visible"])
    same = np.arange(40) != 38
    samples = np.take_along_axis(heatmaps.reshape(40, -1), published[f"enc_{tag}_dark_idx"], axis=1)
    np.testing.assert_array_equal(weights[same], published[f"enc_{tag}_dark_weight"][same])
    np.testing.assert_allclose(samples[same], published[f"enc_{tag}_dark_val"][same], atol=2e-6)
    assert weights[38] == 0 and keypoints[38, 0] < -7


@pytest.mark.parametrize("tag", SIZES)
def test_quarter_offset_equals_published_decoding(published, tag):
    keypoints, scores = Msra(SIZES[tag]).decode(maps_of(published, tag))
    np.testing.assert_array_equal(keypoints / 4, published[f"dec_{tag}_quarter_hrnet_heatmap"])
    np.testing.assert_array_equal(scores, published[f"dec_{tag}_maxval"])


@pytest.mark.parametrize("tag", SIZES)
def test_dark_decoding_equals_published(published, usual, tag):
    keypoints, scores = Dark(SIZES[tag]).decode(maps_of(published, tag))
    np.testing.assert_allclose(keypoints / 4, published[f"dec_{tag}_dark_darkpose_heatmap"], atol=1e-4)
    np.testing.assert_array_equal(scores, published[f"dec_{tag}_maxval"])
    wanted = published[f"dec_{tag}_dark_mmpose1_input"]
    np.testing.assert_allclose(keypoints[usual[tag]], wanted[usual[tag]], atol=4e-4)  # 1e-4 cells


@pytest.mark.parametrize("tag", SIZES)
def test_udp_decoding_equals_published(published, usual, tag):
    codec = Udp(SIZES[tag])
    keypoints, scores = codec.decode(maps_of(published, tag))
    wanted = published[f"dec_{tag}_udp_udppose_k11_heatmap"]
    np.testing.assert_allclose((keypoints / codec.cell)[usual[tag]], wanted[usual[tag]], atol=1e-4)
    np.testing.assert_array_equal(scores, published[f"dec_{tag}_maxval"])
    np.testing.assert_array_equal(keypoints[~usual[tag]], 0)


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize(
    ("kind", "form"), [(Msra, "quarter_hrnet"), (Dark, "dark_mmpose0"), (Udp, "udp_udppose_k11")], ids=lambda v: str(v)
)
def test_keypoints_in_the_image_equal_published(published, usual, tag, kind, form):
    codec = kind(SIZES[tag])
    center, extent = published[f"dec_{tag}_center"][0], 200 * published[f"dec_{tag}_scale"][0]
    crop = Crop(tuple(center.tolist()), tuple(extent.tolist()), codec.size, codec.crop_mode)
    image = crop.to_image(codec.decode(maps_of(published, tag))[0])
    np.testing.assert_allclose(image[usual[tag]], published[f"dec_{tag}_{form}_image"][usual[tag]], atol=2e-3)


@pytest.mark.parametrize("tag", SIZES)
def test_blurred_maps_equal_published_maps(published, tag):
    heatmaps, index = maps_of(published, tag), published[f"dec_{tag}_blur_idx"]
    rescaled, mirrored = gaussian_filter(heatmaps), blur(heatmaps, 11, "reflect")
    samples = np.take_along_axis(rescaled.reshape(71, -1), index, axis=1)
    wanted = np.nan_to_num(published[f"dec_{tag}_blur_val_mmpose"])  # a map of zeros gives NaN there and zeros here
    np.testing.assert_allclose(samples, wanted, atol=2e-6)
    samples = np.take_along_axis(mirrored.reshape(71, -1), index, axis=1)
    np.testing.assert_allclose(samples, published[f"dec_{tag}_blur_val_udppose_raw_k11"], atol=2e-6)


def test_blurred_flat_map_stays_flat():
    np.testing.assert_array_equal(blur(np.full((2, 64, 48), 0.3, np.float32), 11, "reflect"), np.float32(0.3))


def test_blur_of_maps_smaller_than_the_kernel():
    flat = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(blur(flat, 17, "reflect"), 1)
    assert 0 < blur(flat, 17, "constant").max() < 0.2


@pytest.mark.parametrize(("name", "shift"), [("noshift", False), ("shift", True)])
def test_flip_test_equals_published_merge(published, name, shift):
    a, b = (published[f"flip_{side}_i16"].astype(np.float32) / 4096 for side in "ab")
    merged = merge_flipped(a, b, COCO17.flip_order, shift)
    np.testing.assert_array_equal(merged * 8192, published[f"flip_merged_{name}_i32"])


@pytest.mark.parametrize(("sigma", "kernel"), [(2, 11), (3, 17), (1, 5), (0.1, 1)])
def test_kernel_width_equals_published(sigma, kernel):
    assert Dark(SIZE, sigma=sigma).kernel == Udp(SIZE, sigma=sigma).kernel == kernel


def test_newton_step_finds_paraboloid_maximum():
    x, y = np.meshgrid(np.arange(-2, 3) - 0.4, np.arange(-2, 3) + 0.3)
    values = -(x**2 + x * y + 2 * y**2)
    assert newton_step(values.ravel(), Dark.derivatives) == pytest.approx([0.4, -0.3])
    np.testing.assert_array_equal(newton_step(np.full((3, 25), 7.0), Dark.derivatives), 0)


inner = st.tuples(st.floats(7, 40), st.floats(7, 56))
"""Positions in a map of 48x64 cells whose Gaussian and its blur are inside the map."""
CLOSE = {"msra": 2, "dark": 0.01, "udp": 0.001}
"""Largest error in px of a keypoint after encoding and decoding, for crops of 256x192: half a cell for msra."""


@pytest.mark.parametrize("name", CODECS)
class TestEveryCodec:
    @given(inner)
    def test_decode_inverts_encode(self, name, place):
        codec = CODECS[name](SIZE)
        heatmaps, _ = codec.encode([place * codec.cell], [1])
        keypoints, scores = codec.decode(heatmaps)
        assert np.abs(keypoints - place * codec.cell).max() <= CLOSE[name] + 1e-4
        assert 0.93 < scores[0] <= 1

    def test_codec_without_persons_is_empty(self, name):
        codec = CODECS[name](SIZE)
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
        ids=["unlabeled", "hidden", "first pixel", "last pixel", "left of the crop", "below the crop"],
    )
    def test_target_weights_by_visibility(self, name, point, visible, weight):
        heatmaps, weights = CODECS[name](SIZE).encode([point], [visible])
        assert weights == [weight]
        assert (heatmaps.max() > 0) == bool(weight)

    @pytest.mark.parametrize("value", [0, -1])
    def test_map_without_positive_cell_gives_origin(self, name, value):
        keypoints, scores = CODECS[name](SIZE).decode(np.full((1, 2, 64, 48), value, np.float32))
        np.testing.assert_array_equal(keypoints, 0)
        np.testing.assert_array_equal(scores, value)

    def test_flipped_keypoints_give_flipped_maps(self, name):
        codec = CODECS[name](SIZE)
        points = np.random.default_rng(0).integers(0, 48, (17, 2)) * codec.cell
        mirrored = np.stack([47 * codec.cell[0] - points[:, 0], points[:, 1]], axis=-1)
        a, _ = codec.encode(points, np.ones(17))
        b, _ = codec.encode(mirrored[COCO17.flip_order], np.ones(17))
        np.testing.assert_allclose(a, b[COCO17.flip_order][..., ::-1], atol=1e-6)

    def test_shifted_keypoint_shifts_its_map(self, name):
        codec = CODECS[name](SIZE)
        a, _ = codec.encode([20.3, 30.4] * codec.cell[None], [1])
        b, _ = codec.encode([21.3, 29.4] * codec.cell[None], [1])
        np.testing.assert_allclose(np.roll(a, (-1, 1), axis=(-2, -1))[:, 10:50, 10:38], b[:, 10:50, 10:38], atol=1e-6)

    @given(
        st.tuples(st.floats(19, 28), st.floats(19, 44)),
        st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
        st.integers(0, 2**32 - 1),
    )
    def test_shifted_or_flipped_map_moves_keypoint(self, name, place, cells, seed):
        """A Gaussian far from all borders, multiplied by noise."""
        codec = CODECS[name](SIZE)
        maps, _ = codec.encode([place * codec.cell], [1])
        maps = maps * np.random.default_rng(seed).uniform(0.9, 1, maps.shape).astype(np.float32)
        (plain,), score = codec.decode(maps)
        (moved,), moved_score = codec.decode(np.roll(maps, cells, axis=(-1, -2)))
        (mirrored,), mirrored_score = codec.decode(maps[..., ::-1])
        assert score == moved_score == mirrored_score
        np.testing.assert_allclose(moved - cells * codec.cell, plain, atol=1e-3)
        # UDP-Pose's mixed difference uses one diagonal only.
        np.testing.assert_allclose(mirrored, [47 * codec.cell[0] - plain[0], plain[1]], atol=0.02)

    @given(inner)
    def test_flip_test_keeps_the_keypoint_position(self, name, place):
        """Exact in "udp"; to a quarter of a cell in "msra", where the flip axis is between two cells."""
        codec = CODECS[name](SIZE, **({"unbiased": True} if name == "msra" else {}))
        keypoint = place * codec.cell
        plain, _ = codec.encode([keypoint], [1])
        mirrored, _ = codec.encode([[191 - keypoint[0], keypoint[1]]], [1])
        same = np.array([0])
        right, wrong = (2 * merge_flipped(0 * plain, mirrored, same, shift) for shift in (codec.flip_shift, True))
        away = (right * np.arange(48)).sum() / right.sum() - place[0]  # centroid: UDP's Gaussian is truncated
        assert abs(away) <= (0.2501 if codec.flip_shift else 0.01)
        assert codec.flip_shift or np.abs(wrong - plain).max() > 0.2
