"""The parity check finds every kind of difference and accepts rounding errors."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Dark, Msra, Udp
from featherpose.errors import ModelError
from featherpose.exporting.parity import check_parity, reach, slack
from featherpose.size import Size

pytestmark = pytest.mark.torch

SMALL, LARGE = Size(height=64, width=48), Size(height=128, width=96)
CODEC = Msra(SMALL)
KEYPOINT_NAMES = ("nose", "left_eye")
CROPS = {name: np.full((64, 48, 3), value, np.uint8) for value, name in enumerate(("first", "second", "third"))}


def heatmaps():
    """(3, 2, 16, 12): two keypoints per crop, peaks of 1 at cells (5, 7) and (3, 9), sloping right and down."""
    maps = np.zeros((3, 2, 16, 12), np.float32)
    for keypoint, (x, y) in enumerate(((5, 7), (3, 9))):
        maps[:, keypoint, y - 1 : y + 2, x - 1 : x + 2] = 0.25
        maps[:, keypoint, y, x + 1] = maps[:, keypoint, y + 1, x] = 0.5
        maps[:, keypoint, y, x] = 1
    return maps


def fake_run(maps, codec=CODEC):
    """Heatmaps of the three crops -> a network or engine that outputs them, for any batch size."""

    def run(crops):
        crop_maps = maps[crops[:, 0, 0, 0]]
        return *codec.decode(crop_maps), crop_maps

    return run


def run_check(network, engine):
    return check_parity(
        fake_run(network), fake_run(engine) if isinstance(engine, np.ndarray) else engine, CROPS, CODEC, KEYPOINT_NAMES
    )


def changed(crop, keypoint, x, y, value):
    maps = heatmaps()
    maps[crop, keypoint, y, x] = value
    return maps


def test_equal_outputs_pass_with_zero_error():
    record = run_check(heatmaps(), heatmaps())
    assert (record["heatmaps"], record["scores"], record["keypoints"], record["jumps"]) == (0, 0, 0, [])
    assert (record["crops"], record["keypoints_compared"], record["batches"]) == (
        ["first", "second", "third"],
        6,
        [1, 5],
    )
    assert set(record["engines"]) == {"torch", "onnxruntime"}


def test_rounding_error_passes_and_is_recorded():
    record = run_check(heatmaps(), changed(1, 0, 5, 7, 1 - 2e-5))
    assert record["heatmaps"] == pytest.approx(2e-5, rel=0.01)
    assert record["scores"] == pytest.approx(2e-5, rel=0.01)
    assert record["keypoints"] == 0


def test_jump_at_tie_is_recorded():
    network = changed(2, 1, 9, 2, 1 - 1e-6)
    engine = changed(2, 1, 9, 2, 1 + 1e-6)
    assert run_check(network, engine)["jumps"] == [{"crop": "third", "keypoint": "left_eye", "pixels": 29.0}]


def test_quarter_offset_flip_at_tie_is_recorded():
    network, engine = changed(0, 0, 4, 7, 0.5 - 1e-6), changed(0, 0, 4, 7, 0.5 + 1e-6)
    record = run_check(network, engine)
    assert record["jumps"] == [{"crop": "first", "keypoint": "nose", "pixels": 2.0}]
    assert record["keypoints"] == 0


def shifted(crops):
    keypoints, scores, maps = fake_run(heatmaps())(crops)
    return keypoints + np.float32(0.25), scores, maps


def wrong_scores(crops):
    keypoints, scores, maps = fake_run(heatmaps())(crops)
    return keypoints, scores * np.float32(0.5), maps


def wrong_in_batches(crops):
    keypoints, scores, maps = fake_run(heatmaps())(crops)
    return keypoints, scores, maps + (len(crops) > 1)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (changed(1, 0, 5, 7, 1.001), "heatmaps differ by 0.001 of their range .* at nose on crop 'second'"),
        (changed(2, 1, 0, 0, np.nan), "heatmaps differ by nan of their range .* at left_eye on crop 'third'"),
        (changed(0, 1, 9, 2, 7), "heatmaps differ by 7 .* at left_eye on crop 'first'"),
        (shifted, "keypoints differ by 0.25 px from the decoded heatmaps"),
        (wrong_scores, "scores differ by 0.5 from the decoded heatmaps"),
        (wrong_in_batches, "heatmaps differ by 1 of their range"),
    ],
    ids=["heatmaps", "not a number", "another peak", "keypoints_compared", "scores", "batches"],
)
def test_differences_raise_model_error(engine, message):
    with pytest.raises(ModelError, match=message):
        run_check(heatmaps(), engine)


def test_untied_keypoint_shift_raises():
    """A network whose keypoints do not match its heatmaps, as with a wrong decoder in torch."""

    def network(crops):
        keypoints, scores, maps = fake_run(heatmaps())(crops)
        return keypoints + 4, scores, maps

    with pytest.raises(ModelError, match=r"keypoints differ by 4 px .allowed 0.01. at nose on crop 'first'"):
        check_parity(network, fake_run(heatmaps()), CROPS, CODEC, KEYPOINT_NAMES)


def unsteady(crops):
    keypoints, scores, maps = fake_run(heatmaps())(crops)
    return keypoints, scores, maps * np.float32(1 + 1e-3 * len(crops))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (fake_run(0 * heatmaps()), "range of 0"),
        (fake_run(np.nan * heatmaps()), "range of nan"),
        (unsteady, "own heatmaps change by 0.002 of their range"),
    ],
    ids=["flat", "not a number", "batches"],
)
def test_uninformative_network_raises(network, message):
    with pytest.raises(ModelError, match=message):
        check_parity(network, fake_run(heatmaps()), CROPS, CODEC, KEYPOINT_NAMES)


def reach_of(codec, maps, change):
    return reach(codec, maps, np.full(maps.shape[:2], change, np.float32))[0, 0]


@pytest.mark.parametrize(
    ("cell", "change", "pixels"),
    [
        ((0, 0, 5, 7, 1), 0.12, 0),  # the central differences are 0.5 - 0.25
        ((0, 0, 5, 7, 1), 0.125, 2),
        ((0, 0, 4, 7, 0.46875), 0.0156, 0),  # almost no slope in x
        ((0, 0, 4, 7, 0.46875), 0.015625, 2),
        ((0, 0, 9, 2, 0.875), 0.0624, 0),  # a second peak
        ((0, 0, 9, 2, 0.875), 0.0625, np.inf),
        ((0, 0, 4, 7, 0.5), 0, 0),  # bit-equal maps are unambiguous, tie or not
        ((0, 0, 9, 2, 1), 0, 0),
    ],
)
def test_reach_of_msra_at_slopes_and_ties(cell, change, pixels):
    assert reach_of(CODEC, changed(*cell), change) == pixels


@pytest.mark.parametrize("kind", CODECS.values(), ids=CODECS)
def test_reach_of_empty_map_is_infinite(kind):
    maps = np.zeros((1, 1, 16, 12), np.float32)
    assert reach_of(kind(SMALL), maps, 1e-6) == np.inf
    assert reach_of(kind(SMALL), maps, 0) == 0 or kind is Dark  # for Dark, the determinant is 0


@pytest.mark.parametrize("kind", [Dark, Udp])
@pytest.mark.parametrize("change", [1e-6, 1e-5, 1e-4])
def test_reach_bounds_newton_step_movement(kind, change):
    """Gaussians with a background level, weak or outside the map, and noise, each changed 20 times by `change`."""
    codec, rng = kind(LARGE), np.random.default_rng(8)
    places = rng.uniform((-8, -8), (100, 132), (60, 2))
    maps = codec.encode(places, np.ones(60))[0] * rng.uniform(0.1, 1, (60, 1, 1))
    maps = (maps + rng.uniform(0, 0.2, (60, 1, 1)) * rng.random(maps.shape)).astype(np.float32)[None]
    keypoints, far = codec.decode(maps)[0], reach(codec, maps, np.full((1, 60), change, np.float32))
    for _ in range(20):
        noise = rng.choice([-change, change], maps.shape).astype(np.float32)
        moved = np.abs(codec.decode(maps + noise)[0] - keypoints).max(axis=-1)
        assert (moved <= far + slack(codec, maps)).all()
    clear = maps.max(axis=(2, 3)) > 0.5
    assert np.median(far[clear]) < 2000 * change, "the tolerance of a clear keypoint stays small"


def test_slack_is_zero_for_msra_and_grows_if_flat():
    places = np.full((4, 2), (48, 64))
    assert (slack(Msra(LARGE), Msra(LARGE).encode(places, np.ones(4))[0][None]) == 0).all()
    codec = Udp(LARGE)
    maps = codec.encode(places, np.ones(4))[0][None] * np.array([1, 0.1, 0.01, 0], np.float32)[:, None, None]
    flatter = slack(codec, maps + np.float32(0.5))[0]
    assert flatter[0] < 1e-3 * codec.size.width and (np.diff(flatter) > 0).all()
    assert flatter[3] == np.inf


@pytest.mark.parametrize("kind", [Dark, Udp])
@pytest.mark.parametrize("pixels", [0.02, 1])
def test_wrong_newton_step_raises(kind, pixels):
    codec = kind(SMALL, sigma=1)
    maps = np.stack([codec.encode([(20 + i, 30), (24, 33)], [1, 1])[0] for i in range(3)])

    def wrong(crops):
        keypoints, scores, crop_maps = fake_run(maps, codec)(crops)
        return keypoints + np.float32(pixels), scores, crop_maps

    assert check_parity(fake_run(maps, codec), fake_run(maps, codec), CROPS, codec, KEYPOINT_NAMES)["jumps"] == []
    with pytest.raises(ModelError, match=f"keypoints differ by {pixels} px from the decoded heatmaps"):
        check_parity(fake_run(maps, codec), wrong, CROPS, codec, KEYPOINT_NAMES)


@pytest.mark.parametrize("kind", [Dark, Udp])
def test_jump_on_flat_map_is_recorded(kind):
    codec, rng = kind(SMALL, sigma=1), np.random.default_rng(2)
    network = np.stack([codec.encode([(20 + i, 30), (24, 33)], [1, 1])[0] for i in range(3)])
    network[1, 0] = 0.5 + 1e-4 * network[1, 0]
    engine = network.copy()
    engine[1, 0] += 1e-6 * rng.standard_normal((16, 12)).astype(np.float32)
    record = check_parity(fake_run(network, codec), fake_run(engine, codec), CROPS, codec, KEYPOINT_NAMES)
    (jump,) = record["jumps"]
    assert (jump["crop"], jump["keypoint"]) == ("second", "nose") and jump["pixels"] > 0.01
    assert record["keypoints"] < 1e-4
