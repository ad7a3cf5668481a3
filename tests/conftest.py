"""Shared by all tests: the location of the published numbers and of the data sets."""

import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Without torch these packages cannot be collected.
collect_ignore = [] if find_spec("torch") else ["training", "networks", "exporting", "contracts"]

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared"
DATA = Path(os.environ.get("FEATHERPOSE_DATA", DEFAULT_DATA))
if (DATA / "data").is_dir():
    # The package itself looks in the user's cache alone: for tests, the folder beside the checkout is named.
    os.environ["FEATHERPOSE_DATA"] = str(DATA)


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder with the numbers of the published implementations."""
    return Path(__file__).parent / "parity"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder that contains `data/` with photographs: FEATHERPOSE_DATA, or `shared` next to the checkout."""
    if not (DATA / "data").is_dir():
        pytest.skip(f"no photographs at {DATA}; set FEATHERPOSE_DATA to the folder that contains data/")
    return DATA


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Skipped tests fail the run where the data is available."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and (DATA / "data").is_dir() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_unconfigure(config: pytest.Config) -> Generator[None, None, None]:
    """Print the counts as the last line of the output."""
    yield
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(config, "workerinput"):
        counts = {kind: len(reporter.stats.get(kind, [])) for kind in ("passed", "failed", "skipped")}
        counts["failed"] += len(reporter.stats.get("error", []))
        print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
