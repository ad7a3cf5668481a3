"""What the progress bar says beside the number of images."""

import pytest

from featherpose.cli.progress import _speed


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        pytest.param(0, 90, 10.0, "", id="none done"),
        pytest.param(30, 90, 0.0, "", id="no time passed"),
        pytest.param(30, 90, 10.0, ", 3.0 images/s, 0:00:20 left", id="seconds"),
        pytest.param(1, 7301, 1.0, ", 1.0 images/s, 2:01:40 left", id="hours"),
        pytest.param(90, 90, 10.0, ", 9.0 images/s, 0:00:00 left", id="all done"),
    ],
)
def test_speed_and_time_left(done: int, total: int, seconds: float, text: str) -> None:
    assert _speed(done, total, seconds) == text
