"""Sizes of images, network inputs and heatmaps: two named sides, printed height x width as the field writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featherpose.errors import InputError

_TEXT = re.compile(r"\s*(\d+)\s*[xX]\s*(\d+)\s*")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Height and width in whole pixels or heatmap cells; printed as "256x192", height x width.

    A bare pair does not say which side comes first, so there is no way to make a Size from one.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        sides: list[Any] = [self.height, self.width]
        # True is an int in Python, and no side.
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
            raise InputError(f"height is {self.height!r} and width is {self.width!r}; wanted whole numbers above 0.")

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def xy(self) -> tuple[int, int]:
        """(width, height): the order of x and y, and OpenCV's."""
        return self.width, self.height

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width): the order of an array's axes."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """height x width."""
        return self.height * self.width

    def to_dict(self) -> dict[str, int]:
        """Plain dict for JSON: {"height": 256, "width": 192}."""
        return asdict(self)

    @classmethod
    def of(cls, value: object) -> Size:
        """A Size, a text such as "256x192" (height x width) or a mapping with height and width -> Size.

        Raises:
            InputError: for anything else, above all a bare pair of numbers, and for a text that is wider than tall:
                persons are not, and the numbers are most likely width x height.
        """
        if isinstance(value, Size):
            return value
        if isinstance(value, str) and (match := _TEXT.fullmatch(value)):
            return cls._from_text(value, int(match[1]), int(match[2]))
        if isinstance(value, Mapping) and set(value) == {"height", "width"}:
            return cls(**value)
        raise InputError(f"{value!r} is not a size; wanted height x width, for example 256x192.")

    @classmethod
    def _from_text(cls, text: str, height: int, width: int) -> Size:
        if width > height:
            raise InputError(
                f"{text} is wider than tall; sizes are height x width; did you mean {width}x{height}? "
                f"(An input that is to be wide: {{height: {height}, width: {width}}}.)"
            )
        return cls(height=height, width=width)
