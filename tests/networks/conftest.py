"""Published numbers: weights and images as functions of a name or a seed, and the outputs of the references."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def fill(name: str, shape: list[int], gain: float) -> torch.Tensor:
    """The fixture's value for a tensor of this name and shape."""
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    values = {
        "running_mean": lambda: 0.05 * z,
        "running_var": lambda: 1 + 0.2 * np.abs(z),
        "bias": lambda: 0.05 * z,
        "weight": lambda: 1 + 0.1 * z if len(shape) == 1 else z * np.sqrt(gain / np.prod(shape[1:])),
    }
    return torch.from_numpy(np.asarray(values.get(kind, lambda: 0.5 * z)(), np.float32))


def fill_model(model: torch.nn.Module, gain: float) -> torch.nn.Module:
    """The model in float64, every parameter and buffer filled from its name."""
    model.load_state_dict({k: fill(k, list(v.shape), gain) for k, v in model.state_dict().items()})
    return model.double()


def synthetic_image(seed: int, n: int, height: int, width: int) -> torch.Tensor:
    """The fixture's input (n, 3, height, width), float64 values that float32 represents exactly."""
    rng = np.random.default_rng(seed)
    grid = torch.from_numpy(rng.standard_normal((n, 3, height // 32 + 1, width // 32 + 1)))
    smooth = torch.nn.functional.interpolate(grid, (height, width), mode="bilinear", align_corners=True)
    noise = rng.standard_normal((n, 3, height, width))
    return (smooth + 0.25 * torch.from_numpy(noise)).float().double()


@dataclass(frozen=True)
class Reference:
    """Recorded outputs of a published network."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def weights(self) -> dict[str, torch.Tensor]:
        """All tensors except fixed tables, which the network computes itself."""
        fixed = self.facts.get("frozen_params", [])
        return {k: fill(k, shape, self.facts["gain"]) for k, shape in self.facts["state_dict"] if k not in fixed}

    def values(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return self.arrays[f"{key}_idx"], self.arrays[f"{key}_val"]

    def max_error(self, output: np.ndarray, key: str) -> float:
        """Largest difference from the recorded values, in standard deviations of the output."""
        indices, values = self.values(key)
        return np.abs(output.reshape(-1)[indices] - values).max() / output.std()

    def max_error_from_float32(self, output: np.ndarray, key: str) -> float:
        """The same for the complete maps recorded in float32: all channels, or a selection of them."""
        channels = self.arrays.get(f"{key}_channels", slice(None))
        return np.abs(output[:, channels] - self.arrays[f"{key}_f32"]).max() / output.std()


@pytest.fixture(scope="session")
def reference(parity: Path) -> Callable[[str], Reference]:
    """Name of a published network -> its recorded facts and arrays."""

    def read(name: str) -> Reference:
        facts = json.loads((parity / f"{name}.json").read_text())
        with np.load(parity / f"{name}.npz") as arrays:
            return Reference(facts, dict(arrays))

    return read


@pytest.fixture(scope="session")
def fill_tensor() -> Callable[[str, list[int], float], torch.Tensor]:
    return fill


@pytest.fixture(scope="session")
def filled() -> Callable[[torch.nn.Module, float], torch.nn.Module]:
    return fill_model


@pytest.fixture(scope="session")
def make_image() -> Callable[[int, int, int, int], torch.Tensor]:
    return synthetic_image
