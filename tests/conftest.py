"""What all tests share: where the photographs and the published numbers lie."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `parity/` and `data/`: FEATHERPOSE_DATA, or `shared` beside the checkout."""
    folder = Path(os.environ.get("FEATHERPOSE_DATA", BESIDE))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no data at {folder}; set FEATHERPOSE_DATA to the folder that holds parity/ and data/")
    return folder
