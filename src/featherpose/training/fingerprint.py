"""What a run has been trained on: numbers of samples and a digest of their labels, kept in the state of the run.

A run that is resumed with other data would end with weights that no uninterrupted run has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import DataError

Fingerprint = dict[str, Any]
"""Numbers of training and validation samples, and digests of all labels."""


def fingerprint(training: int, validation: int, keys: Iterable[str], arrays: Iterable[NDArray[Any]]) -> Fingerprint:
    """Numbers of samples, the keys of all samples, and arrays with their labels -> the fingerprint of the data."""
    digest = hashlib.sha256("\n".join(keys).encode("utf-8", "surrogatepass"))
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return {"training samples": training, "validation samples": validation, "labels": digest.hexdigest()[:16]}


def digest_of(*parts: Iterable[object]) -> str:
    """What else the samples are, such as names of keypoints -> its digest."""
    return hashlib.sha256(repr([list(part) for part in parts]).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_same_data(before: Fingerprint, now: Fingerprint) -> None:
    """Fingerprints at the start of a run and at its resumption -> DataError if they differ.

    A state that has none, of an earlier version, is accepted.
    """
    changed = [f"{what} {before[what]} then, {now[what]} now" for what in before if before[what] != now.get(what)]
    if changed:
        raise DataError(
            f"The data set has changed since the run began: {', '.join(changed)}. Start a new run with another --out,"
            " restore the data, or go on with the changed data: --accept-changed-data."
        )
