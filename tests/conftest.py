"""What all tests share: where the photographs and the published numbers lie."""

import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Without torch the heavy side cannot even be collected; the light job tests everything else.
collect_ignore = [] if find_spec("torch") else ["training", "networks", "exporting", "contracts"]

BESIDE = Path(__file__).resolve().parents[2] / "shared"


DATA = Path(os.environ.get("FEATHERPOSE_DATA", BESIDE))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `parity/` and `data/`: FEATHERPOSE_DATA, or `shared` beside the checkout."""
    if not (DATA / "parity").is_dir():
        pytest.skip(f"no data at {DATA}; set FEATHERPOSE_DATA to the folder that holds parity/ and data/")
    return DATA


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where the data is, nothing may be skipped."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and (DATA / "parity").is_dir() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_unconfigure(config: pytest.Config) -> Generator[None, None, None]:
    """The last line states the counts, in plain words."""
    yield
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(config, "workerinput"):
        counts = {kind: len(reporter.stats.get(kind, [])) for kind in ("passed", "failed", "skipped")}
        counts["failed"] += len(reporter.stats.get("error", []))
        print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
