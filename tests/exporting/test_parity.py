"""The parity check finds every kind of difference and accepts rounding errors."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Dark, Msra, Udp
from featherpose.errors import ModelError
from featherpose.exporting.parity import check_parity, reach, slack

pytestmark = pytest.mark.torch

CODEC = Msra((48, 64))
JOINTS = ("nose", "left_eye")
CROPS = {name: np.full((64, 48, 3), value, np.uint8) for value, name in enumerate(("first", "second", "third"))}


def heatmaps():
    """(3, 2, 16, 12): two keypoints per crop, peaks of 1 at cells (5, 7) and (3, 9), sloping right and down."""
    maps = np.zeros((3, 2, 16, 12), np.float32)
    for keypoint, (x, y) in enumerate(((5, 7), (3, 9))):
        maps[:, keypoint, y - 1 : y + 2, x - 1 : x + 2] = 0.25
        maps[:, keypoint, y, x + 1] = maps[:, keypoint, y + 1, x] = 0.5
        maps[:, keypoint, y, x] = 1
    return maps


def side(maps, codec=CODEC):
    """Heatmaps of the three crops -> a network or engine that outputs them, for any batch size."""

    def run(crops):
        own = maps[crops[:, 0, 0, 0]]
        return *codec.decode(own), own

    return run


def proven(network, engine):
    return check_parity(side(network), side(engine) if isinstance(engine, np.ndarray) else engine, CROPS, CODEC, JOINTS)


def changed(crop, keypoint, x, y, value):
    maps = heatmaps()
    maps[crop, keypoint, y, x] = value
    return maps


def test_equal_sides_are_equal():
    record = proven(heatmaps(), heatmaps())
    assert (record["heatmaps"], record["scores"], record["keypoints"], record["jumps"]) == (0, 0, 0, [])
    assert (record["crops"], record["keypoints_compared"], record["batches"]) == (
        ["first", "second", "third"],
        6,
        [1, 5],
    )
    assert set(record["engines"]) == {"torch", "onnxruntime"}


def test_rounding_passes_and_is_measured():
    record = proven(heatmaps(), changed(1, 0, 5, 7, 1 - 2e-5))
    assert record["heatmaps"] == pytest.approx(2e-5, rel=0.01)
    assert record["scores"] == pytest.approx(2e-5, rel=0.01)
    assert record["keypoints"] == 0


def test_a_jump_at_a_tie_is_named():
    network = changed(2, 1, 9, 2, 1 - 1e-6)
    engine = changed(2, 1, 9, 2, 1 + 1e-6)
    assert proven(network, engine)["jumps"] == [{"crop": "third", "keypoint": "left_eye", "pixels": 29.0}]


def test_a_quarter_offset_that_turns_at_a_tie_is_named():
    network, engine = changed(0, 0, 4, 7, 0.5 - 1e-6), changed(0, 0, 4, 7, 0.5 + 1e-6)
    record = proven(network, engine)
    assert record["jumps"] == [{"crop": "first", "keypoint": "nose", "pixels": 2.0}]
    assert record["keypoints"] == 0


def shifted(crops):
    keypoints, scores, maps = side(heatmaps())(crops)
    return keypoints + np.float32(0.25), scores, maps


def wrong_scores(crops):
    keypoints, scores, maps = side(heatmaps())(crops)
    return keypoints, scores * np.float32(0.5), maps


def wrong_in_batches(crops):
    keypoints, scores, maps = side(heatmaps())(crops)
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
def test_differences_are_refused(engine, message):
    with pytest.raises(ModelError, match=message):
        proven(heatmaps(), engine)


def test_an_untied_joint_may_not_move():
    """A network whose keypoints do not match its heatmaps, as with a wrong decoder in torch."""

    def network(crops):
        keypoints, scores, maps = side(heatmaps())(crops)
        return keypoints + 4, scores, maps

    with pytest.raises(ModelError, match=r"keypoints differ by 4 px .allowed 0.01. at nose on crop 'first'"):
        check_parity(network, side(heatmaps()), CROPS, CODEC, JOINTS)


def unsteady(crops):
    keypoints, scores, maps = side(heatmaps())(crops)
    return keypoints, scores, maps * np.float32(1 + 1e-3 * len(crops))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (side(0 * heatmaps()), "range of 0"),
        (side(np.nan * heatmaps()), "range of nan"),
        (unsteady, "own heatmaps change by 0.002 of their range"),
    ],
    ids=["flat", "not a number", "batches"],
)
def test_a_network_that_proves_nothing_is_refused(network, message):
    with pytest.raises(ModelError, match=message):
        check_parity(network, side(heatmaps()), CROPS, CODEC, JOINTS)


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
def test_msra_turns_at_a_slope_and_jumps_at_a_tie(cell, change, pixels):
    assert reach_of(CODEC, changed(*cell), change) == pixels


@pytest.mark.parametrize("kind", CODECS.values(), ids=CODECS)
def test_an_empty_map_leaves_every_joint_open(kind):
    maps = np.zeros((1, 1, 16, 12), np.float32)
    assert reach_of(kind((48, 64)), maps, 1e-6) == np.inf
    assert reach_of(kind((48, 64)), maps, 0) == 0 or kind is Dark  # for Dark, the determinant is 0


@pytest.mark.parametrize("kind", [Dark, Udp])
@pytest.mark.parametrize("change", [1e-6, 1e-5, 1e-4])
def test_a_newton_step_moves_no_further_than_its_reach(kind, change):
    """Gaussians with a background level, weak or outside the map, and noise, each changed 20 times by `change`."""
    codec, rng = kind((96, 128)), np.random.default_rng(8)
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


def test_slack_is_none_where_decoding_only_compares_and_grows_with_flatness():
    places = np.full((4, 2), (48, 64))
    assert (slack(Msra((96, 128)), Msra((96, 128)).encode(places, np.ones(4))[0][None]) == 0).all()
    codec = Udp((96, 128))
    maps = codec.encode(places, np.ones(4))[0][None] * np.array([1, 0.1, 0.01, 0], np.float32)[:, None, None]
    flatter = slack(codec, maps + np.float32(0.5))[0]
    assert flatter[0] < 1e-3 * codec.size.width and (np.diff(flatter) > 0).all()
    assert flatter[3] == np.inf


@pytest.mark.parametrize("kind", [Dark, Udp])
@pytest.mark.parametrize("pixels", [0.02, 1])
def test_a_newton_step_gone_wrong_is_found(kind, pixels):
    codec = kind((48, 64), sigma=1)
    maps = np.stack([codec.encode([(20 + i, 30), (24, 33)], [1, 1])[0] for i in range(3)])

    def wrong(crops):
        keypoints, scores, own = side(maps, codec)(crops)
        return keypoints + np.float32(pixels), scores, own

    assert check_parity(side(maps, codec), side(maps, codec), CROPS, codec, JOINTS)["jumps"] == []
    with pytest.raises(ModelError, match=f"keypoints differ by {pixels} px from the decoded heatmaps"):
        check_parity(side(maps, codec), wrong, CROPS, codec, JOINTS)


@pytest.mark.parametrize("kind", [Dark, Udp])
def test_a_joint_that_a_flat_map_moves_is_named(kind):
    codec, rng = kind((48, 64), sigma=1), np.random.default_rng(2)
    network = np.stack([codec.encode([(20 + i, 30), (24, 33)], [1, 1])[0] for i in range(3)])
    network[1, 0] = 0.5 + 1e-4 * network[1, 0]
    engine = network.copy()
    engine[1, 0] += 1e-6 * rng.standard_normal((16, 12)).astype(np.float32)
    record = check_parity(side(network, codec), side(engine, codec), CROPS, codec, JOINTS)
    (jump,) = record["jumps"]
    assert (jump["crop"], jump["keypoint"]) == ("second", "nose") and jump["pixels"] > 0.01
    assert record["keypoints"] < 1e-4
