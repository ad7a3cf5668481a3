"""Ids over generated clips: stick figures that walk, cross, hide, and frames without anybody."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.runtime.tracker import Tracker, assign
from featherpose.size import Size
from featherpose.skeleton import COCO17

RATE = 25.0
SIZE = Size(height=480, width=640)
FIGURE = np.random.default_rng(0).uniform((-20, -60), (20, 60), (17, 2))
"""Keypoints of a person of 40 x 120 pixels around (0, 0)."""
Place = tuple[float, float]


def people(*places: Place, score: float = 0.9, scale: float = 1.0, seed: int = 0, size: Size = SIZE) -> Poses:
    """Persons at these places, with errors of 1 pixel."""
    if not places:
        return Poses.empty(COCO17, size)
    centers = np.array(places, np.float64)[:, None]
    errors = np.random.default_rng(seed).normal(0, 1, (len(places), 17, 2))
    keypoints = centers + scale * (FIGURE + errors)
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    return Poses(keypoints, np.full((len(places), 17), score), boxes, np.full(len(places), score), COCO17, size)


def ids_over(frames: list[Poses]) -> list[list[int]]:
    tracker = Tracker()
    found: list[list[int]] = []
    for index, poses in enumerate(frames):
        tracked = tracker(poses, index / RATE)
        assert tracked.ids is not None and tracked.ids.dtype == np.int64
        found.append(tracked.ids.tolist())
    return found


@pytest.mark.parametrize(
    ("frames", "ids"),
    [
        pytest.param([people()], [[]], id="nobody"),
        pytest.param([people(), people((100, 200)), people()], [[], [1], []], id="one frame of three"),
        pytest.param([people((100, 200)), people((500, 200))], [[1], [2]], id="far away is another person"),
        pytest.param([people((100, 200), score=0.4)], [[]], id="a weak pose begins no track"),
        pytest.param([people((100, 200)), people((102, 200), score=0.4)], [[1], [1]], id="a weak pose continues one"),
        pytest.param(
            [people((100, 200), (300, 200)), people((300, 200), (100, 200))], [[1, 2], [2, 1]], id="rows change places"
        ),
    ],
)
def test_ids_of_short_clips(frames: list[Poses], ids: list[list[int]]) -> None:
    assert ids_over(frames) == ids


def test_missed_people_leave_the_result_empty_but_typed() -> None:
    poses = Tracker()(people(), 0.0)
    assert len(poses) == 0 and poses.ids is not None and poses.ids.shape == (0,)


@pytest.mark.parametrize("speed", [2.0, 5.0, 12.0], ids=lambda speed: f"{speed:g} px per frame")
@pytest.mark.parametrize("hidden", [0, 5, 12], ids=lambda hidden: f"{hidden} frames hidden")
def test_two_people_cross_and_keep_their_ids(speed: float, hidden: int) -> None:
    """They meet in the middle, where the one who walks to the left is hidden behind the other."""
    num_frames = int(400 / speed)
    middle = num_frames / 2
    frames: list[Poses] = []
    for t in range(num_frames):
        right = (100 + speed * t, 240.0)
        left = (100 + speed * (num_frames - t), 248.0)
        is_hidden = abs(t - middle) < hidden / 2
        frames.append(people(right, seed=t) if is_hidden else people(right, left, seed=t))
    ids = ids_over(frames)
    assert {tuple(of_frame) for of_frame in ids} <= {(1,), (1, 2)} and ids[-1] == [1, 2]


@pytest.mark.parametrize("speed", [0.0, 4.0], ids=["standing", "walking"])
@pytest.mark.parametrize("hidden", [5, 15, 30])
def test_hidden_person_is_found_again(hidden: int, speed: float) -> None:
    places = [(100 + speed * t, 240.0) for t in range(20 + hidden + 10)]
    frames = [people() if 20 <= t < 20 + hidden else people(place, seed=t) for t, place in enumerate(places)]
    assert {found for of_frame in ids_over(frames) for found in of_frame} == {1}


@pytest.mark.parametrize(
    ("place", "scale", "pause"),
    [
        pytest.param((500.0, 240.0), 1.0, 10, id="elsewhere"),
        pytest.param((100.0, 240.0), 2.2, 10, id="much larger"),
        pytest.param((100.0, 240.0), 1.0, 80, id="after 3.2 seconds"),
    ],
)
def test_another_person_gets_a_new_id(place: Place, scale: float, pause: int) -> None:
    seen = [people((100, 240), seed=t) for t in range(10)]
    ids = ids_over([*seen, *[people()] * pause, people(place, scale=scale)])
    assert ids[9] == [1] and ids[-1] == [2]


def test_false_alarm_is_not_kept() -> None:
    assert ids_over([people((100, 240)), people(), people((100, 240))]) == [[1], [], [2]]


def test_ids_stay_when_the_frame_size_changes() -> None:
    large = Size(height=960, width=1280)
    frames = [people((100, 100), (300, 100), seed=t) for t in range(5)]
    frames.append(people((200, 200), (600, 200), scale=2, size=large))
    assert ids_over(frames)[-1] == [1, 2]


def test_unknown_numbers_do_not_stop_the_tracker() -> None:
    poses = people((100, 240), (300, 240))
    poses.keypoints[0] = np.nan
    poses.boxes_xyxy[1] = np.nan
    assert ids_over([poses, poses])[1] == [1, 2]


def test_time_must_not_go_back() -> None:
    tracker = Tracker()
    tracker(people(), 1.0)
    with pytest.raises(InputError, match=r"from 0\.5 s, after one from 1\.0 s"):
        tracker(people(), 0.5)


def empty(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros((0, 3))


def integers(rng: np.random.Generator) -> NDArray[np.float64]:
    """Many sums are equal."""
    return rng.integers(0, 3, rng.integers(1, 7, 2)).astype(np.float64)


def fractions(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0, 1, rng.integers(1, 30, 2))


@pytest.mark.parametrize("make", [empty, integers, fractions])
def test_assignment_has_the_largest_sum(make: Callable[[np.random.Generator], NDArray[np.float64]]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for _ in range(30):
        similarity = make(rng)
        pairs = assign(similarity)
        best = similarity[optimize.linear_sum_assignment(similarity, maximize=True)].sum()
        assert len(pairs) == min(similarity.shape) == len({row for row, _ in pairs}) == len({n for _, n in pairs})
        assert sum(similarity[pair] for pair in pairs) == pytest.approx(best)
