"""Example images, free to use (ORIGIN.md): three portraits, one image of all three, one without
people, and the person boxes."""

from importlib import resources
from pathlib import Path

from featherpose.errors import InputError, did_you_mean

NAMES = ("boxes.json", "cameraman.jpg", "coffee.jpg", "collins.jpg", "hopper.jpg", "people.jpg")


def find(name: str) -> Path:
    """Name of an example, such as "people.jpg" or "boxes.json" -> path of its file. InputError if unknown."""
    if name not in NAMES:
        raise InputError(f"No example {name!r}.{did_you_mean(name, NAMES)}")
    return Path(str(resources.files(__name__))) / name
