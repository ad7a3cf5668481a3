"""All errors that featherpose raises, in one hierarchy.

FeatherposeError
├── InputError     an image, a box or a path that cannot be used
├── ModelError     an unknown network, weights that do not fit, an ONNX file that is not featherpose's
├── RecipeError    a training recipe with a wrong key or value
├── DataError      a data set, shard or annotation file that cannot be used
├── DeviceError    a requested device that is not available
└── MissingExtra   a feature whose libraries are not installed

A message is one line: what was seen, what was wanted, what to type next.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FeatherposeError(Exception):
    """Base class of all errors that featherpose raises on purpose."""


class InputError(FeatherposeError):
    """An image, a box or a path that cannot be used."""


class ModelError(FeatherposeError):
    """An unknown network, weights that do not fit, or an ONNX file that is not featherpose's."""


class RecipeError(FeatherposeError):
    """A training recipe with a wrong key or value."""


class DataError(FeatherposeError):
    """A data set, shard or annotation file that cannot be used."""


class DeviceError(FeatherposeError):
    """A requested device that is not available."""


class MissingExtra(FeatherposeError):
    """A feature whose libraries are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs libraries that are not installed; type in a clone of featherpose: pip install '.[{extra}]'"
        )


def with_name(name: object, error: Exception) -> str:
    """Name of what an error is about -> its message, which begins with the name unless it says it already.

    >>> with_name("a.jpg", InputError("the file is empty."))
    'a.jpg: the file is empty.'
    >>> with_name("a.jpg", InputError("holiday/a.jpg: the file is empty."))
    'holiday/a.jpg: the file is empty.'
    """
    return str(error) if str(name) in str(error) else f"{name}: {error}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Unknown name and the known names -> the end of a message: the closest names, or all of them.

    >>> did_you_mean("lite_hrnet_19", ["lite_hrnet_18", "cpm"])
    " Did you mean 'lite_hrnet_18'?"
    >>> did_you_mean("x", ["b", "a"])
    ' Known: a, b.'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return " Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return f" Known: {', '.join(names)}."
