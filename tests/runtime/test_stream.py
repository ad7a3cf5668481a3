"""Finding, tracking and smoothing over time, on stand-ins: a red cell of 32 x 32 input pixels is a person."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.pipeline import TopDown
from featherpose.runtime.smoothing import make_smoother
from featherpose.runtime.stopwatch import Stopwatch
from featherpose.runtime.stream import Background, FindAll, FindSometimes, poses_of_frames
from featherpose.runtime.tracker import Tracker
from featherpose.runtime.video_sources import Frame
from tests.runtime.test_tracker import people
from tests.tiny_model import tiny_model

pytest.importorskip("onnx")
RATE = 25.0


def numbers(count: int, *, error: Exception | None = None) -> Iterator[int]:
    yield from range(count)
    if error:
        raise error


def test_background_gives_items_in_order_then_the_error() -> None:
    items = Background(numbers(20, error=InputError("broken")), size=2)
    found: list[int] = []
    with pytest.raises(InputError, match="broken"):
        for item in items:
            found.append(item)  # noqa: PERF402  (extend keeps none of them)
    assert found == list(range(20))


def test_background_of_nothing_is_empty() -> None:
    assert list(Background([])) == []


def test_background_runs_at_most_its_size_ahead() -> None:
    taken: list[int] = []

    def watched() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    items = Background(watched(), size=3)
    assert next(items) == 0
    threading.Event().wait(0.05)
    assert len(taken) <= 1 + 3 + 1
    items.close()
    assert len(taken) < 100 and list(items) == []


def test_background_that_finishes_gives_what_waits() -> None:
    items = Background(numbers(100), size=3)
    first = next(items)
    items.finish()
    rest = list(items)
    assert first == 0 and rest == list(range(1, len(rest) + 1)) and len(rest) < 10


def test_live_source_drops_the_oldest() -> None:
    is_done = threading.Event()

    def all_at_once() -> Iterator[int]:
        yield from range(50)
        is_done.set()
        yield 50

    items = Background(all_at_once(), size=2, drop_oldest=True)
    assert is_done.wait(5)
    found = list(items)
    assert found[-1] == 50 and len(found) <= 4


class Detections:
    """A detector that counts its runs and finds the same everywhere."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.runs = 0

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.runs += 1
        return self.boxes, np.ones(len(self.boxes), np.float32)


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Estimator:
    return Estimator.open(tiny_model(tmp_path_factory.mktemp("model") / "pose.onnx"), "cpu", 1)


def frames(count: int, *, rate: float = RATE, size: int = 96) -> Iterator[Frame]:
    """A red square in the middle."""
    image = np.zeros((size, size, 3), np.uint8)
    image[32:64, 32:64, 0] = 255
    return (Frame(image, index, index / rate) for index in range(count))


@pytest.mark.parametrize(
    ("boxes", "every", "runs"),
    [
        pytest.param([], 1, 20, id="nobody, each frame"),
        pytest.param([], 4, 5, id="nobody, every fourth"),
        pytest.param([], None, 4, id="nobody, chosen: every 0.2 s"),
        pytest.param([(24, 24, 72, 72)], 5, 4, id="one, every fifth"),
        pytest.param([(24, 24, 72, 72)], None, 2, id="one who stands, chosen: every 0.4 s"),
    ],
)
def test_detector_runs_in_some_frames(estimator: Estimator, boxes, every: int | None, runs: int) -> None:
    detector = Detections(*boxes)
    find = FindSometimes(TopDown(detector, estimator), Tracker(), Stopwatch(), every)
    found = [find(frame) for frame in frames(20)]
    assert detector.runs == find.num_detections == runs
    assert {len(poses) for poses in found} == {len(boxes)}
    assert all(poses.ids is not None and poses.ids.tolist() == [1] * len(boxes) for poses in found)


def test_detector_runs_after_somebody_was_lost(estimator: Estimator) -> None:
    detector = Detections((24, 24, 72, 72))
    find = FindSometimes(TopDown(detector, estimator), Tracker(), Stopwatch())
    shown = list(frames(6))
    black = np.zeros_like(shown[0].image)
    for frame in shown:
        find(Frame(black if frame.index in (2, 3) else frame.image, frame.index, frame.timestamp))
    assert detector.runs == 2  # without the loss, once in 0.4 s


def test_new_frame_size_needs_the_detector(estimator: Estimator) -> None:
    detector = Detections((24, 24, 72, 72))
    find = FindSometimes(TopDown(detector, estimator), Tracker(), Stopwatch(), every=100)
    for size in (96, 96, 128, 128):
        find(next(frames(1, size=size)))
    assert detector.runs == 2


def test_every_must_be_a_number_of_frames(estimator: Estimator) -> None:
    with pytest.raises(InputError, match="every is 0, wanted auto or"):
        FindSometimes(TopDown(Detections(), estimator), Tracker(), Stopwatch(), 0)


@pytest.mark.parametrize("mode", ["off", "live", "file"])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_each_frame_gets_its_own_poses(mode: str, count: int) -> None:
    """The person walks, so that poses of another frame would be noticed."""

    def find(image: np.ndarray) -> Poses:
        return people((100 + 2.0 * int(image[0, 0, 0]), 240), seed=int(image[0, 0, 0]))

    shown = (Frame(np.full((480, 640, 3), index, np.uint8), index, index / RATE) for index in range(count))
    watch = Stopwatch()
    found = list(poses_of_frames(shown, FindAll(find, Tracker(), watch), make_smoother(mode), watch))
    assert [frame.index for frame, _ in found] == list(range(count))
    for frame, poses in found:
        wanted = people((100 + 2.0 * frame.index, 240), seed=frame.index)
        np.testing.assert_allclose(poses.keypoints, wanted.keypoints, atol=8)
        assert abs(np.median(poses.keypoints - wanted.keypoints)) < 2.5
