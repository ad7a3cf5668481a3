"""One estimator in several threads, in forked children and in spawned processes: everywhere the same poses."""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from featherpose import examples, images, weights
from featherpose.runtime.estimator import Estimator

BOXES = [[17, 11, 349, 479], [484, 56, 794, 479], [968, 16, 1369, 479], [0, 0, 700, 480], [600, 0, 1370, 480]]
WAIT = 60
"""Seconds after which a process that hangs fails the test."""


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.open(weights.find("small"), "cpu", threads=2)


@pytest.fixture(scope="module")
def keypoints(estimator: Estimator) -> np.ndarray:
    return keypoints_of(estimator, 5)


def keypoints_of(estimator: Estimator, number: int) -> np.ndarray:
    return estimator(images.read(examples.find("people.jpg")), BOXES[:number]).keypoints


def test_threads_share_an_estimator(keypoints: np.ndarray) -> None:
    """Opened without engines for the batch sizes, which the threads then open at the same time."""
    fresh = Estimator.open(weights.find("small"), "cpu", threads=1)
    numbers = [5, 1, 4, 5, 2, 3, 5, 4]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: keypoints_of(fresh, number), numbers))
    for number, points in zip(numbers, found, strict=True):
        np.testing.assert_allclose(points, keypoints[:number], atol=0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_forked_child_opens_engines_of_one_thread(estimator: Estimator, keypoints: np.ndarray) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def estimate() -> None:
        found = keypoints_of(estimator, 5)
        own_engines = [sizes for process, sizes in estimator.session._engines if process == os.getpid()]
        sender.send((found, own_engines, estimator.session.threads_here))

    child = multiprocessing.get_context("fork").Process(target=estimate, daemon=True)
    child.start()
    assert receiver.poll(WAIT), "the child hangs"
    found, own_engines, threads = receiver.recv()
    child.join(WAIT)
    assert child.exitcode == 0
    assert (own_engines, threads) == ([(4,), (1,)], 1)
    np.testing.assert_allclose(found, keypoints, atol=0.01)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_estimator_is_sent_to_a_process(estimator: Estimator, keypoints: np.ndarray, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        found = pool.submit(keypoints_of, estimator, 3).result(WAIT)
    np.testing.assert_allclose(found, keypoints[:3], atol=0.01)
