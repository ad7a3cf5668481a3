"""What a value in a file of a user's means: numbers, ids, flags and names, however a tool writes them.

A value whose meaning is certain is read; every other one is an InputError with its place, its key and the raw value.

| value | as a number | as an id | as a flag |
|---|---|---|---|
| 12, 12.0 | 12 | 12 | refused, except 0 and 1 |
| "12", " 12 " | 12 | the same id as 12 | refused, except "0" and "1" |
| true, false | refused | refused | yes, no |
| "true", "False", "yes", "no" | refused | a name | yes, no |
| null, "", absent | not given | refused | no |
| NaN, Infinity, beyond 1e30 | refused | refused | refused |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose.errors import InputError
from featherpose.records import Id

LARGEST = 1e30
"""Larger numbers are refused: sums and differences of those below are finite in float32."""
_POINT_KEYS = (("x", "y", "v"), ("x", "y", "visibility"), ("x", "y", "visible"))
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_BOX_KEYS = (("x", "y", "width", "height"), ("left", "top", "width", "height"), ("x", "y", "w", "h"))
_SHOWN = 60


def as_number(value: Any, what: str) -> float:
    """Value -> finite number."""
    number = _number(value)
    if number is None:
        raise InputError(f"{what} is {shown(value)}, wanted a finite number.")
    return number


def as_optional_number(value: Any, what: str) -> float | None:
    """Value -> finite number, None where it is not given."""
    return None if is_absent(value) else as_number(value, what)


def as_id(value: Any, what: str) -> Id:
    """Value -> id, as given. Ids are compared by `id_key`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise InputError(f"{what} is {shown(value)}, wanted a number or a name.")


def as_optional_id(value: Any, what: str) -> Id | None:
    """Value -> id, as given; None where it is not given."""
    return None if is_absent(value) else as_id(value, what)


def id_key(value: Id) -> str:
    """Id -> text by which it is compared: 1 and "1" are the same id."""
    return str(value).strip()


def as_flag(value: Any, what: str) -> bool:
    """Value -> yes or no; not given means no."""
    text = "" if value is None else str(value).strip().lower()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if isinstance(value, list | dict) or text not in _FLAGS:
        raise InputError(f"{what} is {shown(value)}, wanted 0 or 1.")
    return _FLAGS[text]


def as_name(value: Any, what: str) -> str:
    """Value -> name, such as that of a file."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{what} is {shown(value)}, wanted a name.")
    return value


def as_side(value: Any, what: str) -> int | None:
    """Value -> width or height of an image in pixels; None where it is not given or 0."""
    number = as_optional_number(value, what)
    if not number:
        return None
    if number < 0 or not number.is_integer():
        raise InputError(f"{what} is {shown(value)}, wanted a whole number of pixels.")
    return int(number)


def as_box(value: Any, what: str) -> NDArray[np.float64] | None:
    """Value -> four numbers (4,), None where they are not given.

    A list of four numbers, such a list in a list, or an object with x, y, width and height.
    """
    if is_absent(value) or value == {}:
        return None
    numbers = value
    if isinstance(value, dict):
        keys = next((keys for keys in _BOX_KEYS if set(keys) <= value.keys()), ())
        numbers = [value[key] for key in keys]
    elif isinstance(value, list) and len(value) == 1:
        numbers = value[0]
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise InputError(f"{what} is {shown(value)}, wanted four numbers.")
    return as_numbers(numbers, what)


def as_keypoints(value: Any, num_keypoints: int, what: str) -> NDArray[np.float32] | None:
    """Value -> keypoints (K, 3) x, y, visibility; None where they are not given.

    One list of numbers, or a list of [x, y, v] or of {"x", "y", "v"}. What x and y of a keypoint with v = 0 are does
    not matter.
    """
    if is_absent(value):
        return None
    if not isinstance(value, list):
        raise InputError(f"{what} is {shown(value)}, wanted x, y, v of {num_keypoints} keypoints.")
    value = [_point(point) for point in value]
    flat = value
    if all(isinstance(point, list) and len(point) == 3 for point in value):
        flat = [number for point in value for number in point]
    if len(flat) != 3 * num_keypoints:
        raise InputError(f"{what}: {len(flat)} numbers ({shown(value)}), wanted x, y, v of {num_keypoints} keypoints.")
    plain = _plain_keypoints(flat)
    if plain is not None:
        return plain
    visibility = as_numbers([v or 0 for v in flat[2::3]], f"{what} (v)")
    labeled = visibility != 0
    if not ((visibility == 1) | (visibility == 2) | ~labeled).all():
        raise InputError(f"{what} is {shown(value)}, wanted v 0, 1 or 2.")
    keypoints = np.zeros((num_keypoints, 3), np.float32)
    keypoints[:, 2] = visibility
    seen = labeled.tolist()
    for axis in (0, 1):
        given = [number for number, is_seen in zip(flat[axis::3], seen, strict=True) if is_seen]
        keypoints[labeled, axis] = as_numbers(given, what)
    return keypoints


def _point(value: Any) -> Any:
    """An object with x, y and v -> [x, y, v]; any other value as it is."""
    if not isinstance(value, dict):
        return value
    keys = next((keys for keys in _POINT_KEYS if set(keys) <= value.keys()), None)
    return value if keys is None else [value[key] for key in keys]


def _plain_keypoints(flat: list[Any]) -> NDArray[np.float32] | None:
    """x1, y1, v1, x2, ... as nearly all files write them, fast -> keypoints (K, 3); None for any other value."""
    if not {type(value) for value in flat} <= {int, float}:
        return None
    try:
        keypoints = np.array(flat, np.float64).reshape(-1, 3)
    except OverflowError:
        return None
    visibility = keypoints[:, 2]
    unlabeled = visibility == 0
    keypoints[unlabeled, :2] = 0
    is_known = unlabeled | (visibility == 1) | (visibility == 2)
    return keypoints.astype(np.float32) if is_known.all() and (np.abs(keypoints) < LARGEST).all() else None


def as_numbers(values: Sequence[Any], what: str) -> NDArray[np.float64]:
    """List of N values -> finite numbers (N,)."""
    if {type(value) for value in values} <= {int, float}:  # nearly always, and fast
        try:
            numbers = np.array(values, np.float64)
        except OverflowError:
            numbers = np.array([math.inf])
        if (np.abs(numbers) < LARGEST).all():
            return numbers
    found = [_number(value) for value in values]
    wrong = [value for value, number in zip(values, found, strict=True) if number is None]
    if wrong:
        raise InputError(f"{what} contains {shown(wrong[0])}, wanted finite numbers.")
    return np.array(found, np.float64)


def is_absent(value: Any) -> bool:
    """Value -> whether it says that nothing is given: null, an empty text or an empty list."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def shown(value: Any) -> str:
    """Value -> its repr for a message, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _number(value: Any) -> float | None:
    """Value -> finite number, None where it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    # Python also reads "1_000" and "infinity".
    if isinstance(value, str) and "_" in value:
        return None
    return number if abs(number) < LARGEST else None
