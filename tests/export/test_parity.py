"""The proof finds every kind of difference, and lets pass what is only rounding."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose.codecs import Msra
from featherpose.errors import ModelError
from featherpose.export.parity import margins, prove

pytestmark = pytest.mark.torch

CODEC = Msra((48, 64))
JOINTS = ("nose", "left_eye")
CROPS = {name: np.full((64, 48, 3), value, np.uint8) for value, name in enumerate(("first", "second", "third"))}


def heatmaps():
    """(3, 2, 16, 12): for each crop two joints, peaks of 1 at cells (5, 7) and (3, 9), sloping right and down."""
    maps = np.zeros((3, 2, 16, 12), np.float32)
    for joint, (x, y) in enumerate(((5, 7), (3, 9))):
        maps[:, joint, y - 1 : y + 2, x - 1 : x + 2] = 0.25
        maps[:, joint, y, x + 1] = maps[:, joint, y + 1, x] = 0.5
        maps[:, joint, y, x] = 1
    return maps


def side(maps, codec=CODEC):
    """Heatmaps of the three crops -> a network or engine that gives them, whatever the batch."""

    def run(crops):
        own = maps[crops[:, 0, 0, 0]]
        return *codec.decode(own), own

    return run


def proven(network, engine):
    return prove(side(network), side(engine) if isinstance(engine, np.ndarray) else engine, CROPS, CODEC, JOINTS)


def changed(crop, joint, x, y, value):
    maps = heatmaps()
    maps[crop, joint, y, x] = value
    return maps


def test_equal_sides_are_equal():
    record = proven(heatmaps(), heatmaps())
    assert (record["heatmaps"], record["scores"], record["keypoints"], record["jumps"]) == (0, 0, 0, [])
    assert (record["crops"], record["joints"], record["batches"]) == (["first", "second", "third"], 6, [1, 5])
    assert set(record["engines"]) == {"torch", "onnxruntime"}


def test_rounding_passes_and_is_measured():
    record = proven(heatmaps(), changed(1, 0, 5, 7, 1 - 2e-5))
    assert record["heatmaps"] == pytest.approx(2e-5, rel=0.01)
    assert record["scores"] == pytest.approx(2e-5, rel=0.01)
    assert record["keypoints"] == 0


def test_a_jump_at_a_tie_is_named():
    network = changed(2, 1, 9, 2, 1 - 1e-6)
    engine = changed(2, 1, 9, 2, 1 + 1e-6)
    assert proven(network, engine)["jumps"] == [{"crop": "third", "joint": "left_eye", "pixels": 29.0}]


def test_a_quarter_offset_that_turns_at_a_tie_is_named():
    network, engine = changed(0, 0, 4, 7, 0.5 - 1e-6), changed(0, 0, 4, 7, 0.5 + 1e-6)
    record = proven(network, engine)
    assert record["jumps"] == [{"crop": "first", "joint": "nose", "pixels": 2.0}]
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
    ids=["heatmaps", "not a number", "another peak", "joints", "scores", "batches"],
)
def test_differences_are_refused(engine, message):
    with pytest.raises(ModelError, match=message):
        proven(heatmaps(), engine)


def test_an_untied_joint_may_not_move():
    """A network whose joints are not those of its heatmaps, as with a wrong decoder on torch's side."""

    def network(crops):
        keypoints, scores, maps = side(heatmaps())(crops)
        return keypoints + 4, scores, maps

    with pytest.raises(ModelError, match=r"keypoints differ by 4 px .allowed 0.01. at nose on crop 'first'"):
        prove(network, side(heatmaps()), CROPS, CODEC, JOINTS)


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
        prove(network, side(heatmaps()), CROPS, CODEC, JOINTS)


@pytest.mark.parametrize(
    ("change", "margin"),
    [
        ((0, 0, 5, 7, 1), 0.25),  # the two central differences, 0.5 - 0.25
        ((0, 0, 9, 2, 0.875), 0.125),  # a second peak
        ((0, 0, 4, 7, 0.46875), 0.03125),  # nearly no slope in x
    ],
    ids=["slope", "second peak", "flat"],
)
def test_margins(change, margin):
    assert margins(changed(*change))[0, 0] == margin


def test_the_margin_of_an_empty_map_is_zero():
    assert margins(np.zeros((1, 1, 16, 12), np.float32))[0, 0] == 0
