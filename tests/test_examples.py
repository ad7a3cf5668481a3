import json

import pytest

from featherpose import examples, images
from featherpose.errors import InputError


def test_examples_are_small_with_stated_origin():
    folder = examples.find("people.jpg").parent
    names = {path.name for path in folder.iterdir() if path.suffix not in (".py", ".md", "")}
    assert names == set(examples.NAMES)
    assert sum((folder / name).stat().st_size for name in names) < 400_000
    origin = (folder / "ORIGIN.md").read_text()
    assert all(name in origin for name in names)


@pytest.mark.parametrize("name", [name for name in examples.NAMES if name.endswith(".jpg")])
def test_example_boxes_are_inside_the_image(name):
    height, width, _ = images.read(examples.find(name)).shape
    boxes = json.loads(examples.find("boxes.json").read_text())[name]
    assert len(boxes) == {"people.jpg": 3, "coffee.jpg": 0}.get(name, 1)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right < width and 0 <= top < bottom < height


def test_unknown_example_is_refused():
    with pytest.raises(InputError, match=r"No example 'people\.png'\. Did you mean 'people\.jpg'"):
        examples.find("people.png")
