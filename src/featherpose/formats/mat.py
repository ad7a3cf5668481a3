"""MATLAB's .mat files, read with scipy: structs become objects with attributes, and cells arrays of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featherpose.errors import InputError, MissingExtra

_ERRORS = (OSError, ValueError, TypeError, NotImplementedError)


def load(path: Path) -> dict[str, Any]:
    """.mat file -> its variables; InputError where it cannot be read."""
    loadmat = scipy_io().loadmat
    try:
        return loadmat(path, struct_as_record=False, squeeze_me=True)
    except _ERRORS as error:
        raise _unreadable(path, error) from None


def shape_of(path: Path, variable: str) -> tuple[int, ...]:
    """.mat file and the name of a variable -> its shape, without reading it; () where there is none."""
    whosmat = scipy_io().whosmat
    try:
        shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape, _ in whosmat(path)}
    except _ERRORS as error:
        raise _unreadable(path, error) from None
    return shapes.get(variable, ())


def scipy_io() -> Any:
    """The module scipy.io; MissingExtra where scipy is not installed."""
    try:
        from scipy import io
    except ImportError:
        raise MissingExtra("A .mat file", "eval") from None
    return io


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read as a .mat file ({error}). Copy or download it again.")
