"""Smoothing on generated keypoints: jitter and lag before and after, gaps filled and flagged, nothing zeroed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.runtime.smoothing import MODES, make_smoother
from featherpose.size import Size
from featherpose.skeleton import COCO17

RATE = 30.0
SIZE = Size(height=480, width=640)
Clip = list[Poses]


def pose(
    offset: float = 0.0, *, score: float = 0.9, noise: float = 0.0, seed: int = 0, ids: tuple[int, ...] = (1,)
) -> Poses:
    """Persons of 40 x 120 pixels, moved to the right by `offset`."""
    rng = np.random.default_rng(seed)
    shape = (len(ids), 17, 2)
    places = np.random.default_rng(99).uniform((200, 100), (240, 220), (17, 2)) + np.array([offset, 0])
    boxes = np.tile(np.array([200 + offset, 100, 240 + offset, 220]), (len(ids), 1))
    scores = np.full(shape[:2], score)
    keypoints = np.broadcast_to(places, shape) + rng.normal(0, noise, shape)
    track_ids = np.array(ids, np.int64)
    return Poses(keypoints, scores, boxes, np.full(len(ids), score), COCO17, SIZE, track_ids)


def smooth(mode: str, clip: Clip, rate: float = RATE) -> Clip:
    smoother = make_smoother(mode)
    done = [found for index, poses in enumerate(clip) for found in smoother(poses, index / rate)]
    done += smoother.flush()
    assert len(done) == len(clip) and smoother.flush() == []
    return done


def track(clip: Clip) -> NDArray[np.float64]:
    """(T, K, 2) keypoints of the first person."""
    return np.stack([poses.keypoints[0] for poses in clip]).astype(np.float64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "clip",
    [
        pytest.param([], id="no frames"),
        pytest.param([pose(ids=())] * 3, id="nobody"),
        pytest.param([pose()], id="one frame"),
        pytest.param([pose(), pose(ids=()), pose(ids=(2, 1)), pose(ids=(2,))], id="people come and go"),
    ],
)
def test_people_ids_and_scores_are_kept(mode: str, clip: Clip) -> None:
    for before, after in zip(clip, smooth(mode, clip), strict=True):
        assert before.ids is not None and after.ids is not None
        assert after.ids.tolist()[: len(before)] == before.ids.tolist()
        assert np.array_equal(after.scores[: len(before)], before.scores)


@pytest.mark.parametrize(("mode", "share"), [("off", 1.0), ("live", 0.35), ("file", 0.2)])
def test_jitter_of_still_keypoints(mode: str, share: float) -> None:
    """Mean acceleration, relative to that of the measured keypoints."""
    clip = [pose(noise=1.5, seed=t) for t in range(90)]
    before, after = (np.abs(np.diff(track(c), 2, axis=0)).mean() for c in (clip, smooth(mode, clip)))
    assert after <= share * before


@pytest.mark.parametrize(("mode", "limit"), [("live", 5.0), ("file", 0.5)])
def test_lag_of_fast_keypoints(mode: str, limit: float) -> None:
    """Back and forth at up to 3 body sizes per second; the greatest error in pixels."""
    clip = [pose(40 * np.sin(2 * np.pi * 0.8 * t / RATE)) for t in range(90)]
    assert np.abs(track(smooth(mode, clip)) - track(clip))[10:-10].max() < limit


@pytest.mark.parametrize("mode", ["live", "file"])
def test_uneven_times_and_large_people_scale(mode: str) -> None:
    """Twice the size gives twice the pixels, at any place."""
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.08, 60))
    found: list[NDArray[np.float64]] = []
    for factor in (1, 2):
        smoother = make_smoother(mode)
        done: Clip = []
        for t, time in enumerate(times.tolist()):
            one = pose(t, noise=1.0, seed=t)
            done += smoother(
                Poses(
                    factor * one.keypoints, one.scores, factor * one.boxes_xyxy, one.box_scores, COCO17, SIZE, one.ids
                ),
                time,
            )
        found.append(track(done + smoother.flush()))
    np.testing.assert_allclose(found[1], 2 * found[0], atol=0.01)


@pytest.mark.parametrize(("missing", "filled"), [(3, True), (12, True), (20, False)], ids=["0.1 s", "0.4 s", "0.7 s"])
def test_missing_person_is_interpolated_up_to_a_limit(missing: int, filled: bool) -> None:
    clip = [pose(2.0 * t, ids=() if 20 <= t < 20 + missing else (1,)) for t in range(60)]
    done = smooth("file", clip)
    for t in range(20, 20 + missing):
        assert len(done[t]) == int(filled)
        if filled:
            assert done[t].interpolated is not None and done[t].interpolated.all()
            np.testing.assert_allclose(done[t].keypoints, pose(2.0 * t).keypoints, atol=0.5)
            assert (done[t].scores == np.float32(0.9)).all() and done[t].ids == [1]
    assert not any(poses.interpolated[0].any() for t in (10, 50) if (poses := done[t]).interpolated is not None)


@pytest.mark.parametrize(("length", "filled"), [(4, True), (25, False)], ids=["short", "long"])
def test_low_scores_keep_their_value(length: int, filled: bool) -> None:
    """A keypoint that jumps away with a low score is interpolated, or stays where it was measured."""
    clip = [pose(2.0 * t) for t in range(60)]
    for t in range(20, 20 + length):
        clip[t].scores[0, 5] = 0.1
        clip[t].keypoints[0, 5] = 0
    done = smooth("file", clip)
    t = 20 + length // 2
    wanted = pose(2.0 * t).keypoints[0, 5] if filled else (0, 0)
    assert done[t].keypoints[0, 5] == pytest.approx(wanted, abs=0.5)
    assert done[t].scores[0, 5] == pytest.approx(0.1)
    assert done[t].interpolated is not None and done[t].interpolated.sum() == int(filled)


@pytest.mark.parametrize("mode", ["live", "file"])
def test_unknown_keypoints_do_not_spread(mode: str) -> None:
    clip = [pose() for _ in range(40)]
    for t in range(20, 40):
        clip[t].keypoints[0, 3] = np.nan
    done = track(smooth(mode, clip))
    assert np.isfinite(done[:20]).all() and np.isfinite(np.delete(done, 3, axis=1)).all()
    assert np.isnan(done[20:, 3]).all()


def test_file_smoothing_waits_for_its_window() -> None:
    smoother = make_smoother("file")
    num_done = sum(len(smoother(pose(), t / RATE)) for t in range(60))
    assert 60 - num_done == 22 and len(smoother.flush()) == 22  # the frame itself, and 0.2 s + 0.5 s


def test_smoothing_needs_ids() -> None:
    poses = pose()
    untracked = Poses(poses.keypoints, poses.scores, poses.boxes_xyxy, poses.box_scores, COCO17, SIZE)
    with pytest.raises(InputError, match="Smoothing needs poses with ids"):
        make_smoother("live")(untracked, 0.0)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="'strong', wanted off, live, file"):
        make_smoother("strong")
