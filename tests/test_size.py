import json

import pytest

from featherpose.errors import InputError
from featherpose.size import Size

PORTRAIT = Size(height=256, width=192)


def test_it_prints_height_first_and_orders_its_sides():
    assert str(PORTRAIT) == "256x192"
    assert (PORTRAIT.shape, PORTRAIT.xy, PORTRAIT.area) == ((256, 192), (192, 256), 49152)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (PORTRAIT, PORTRAIT),
        ("256x192", PORTRAIT),
        (" 256 X 192 ", PORTRAIT),
        ("64x64", Size(height=64, width=64)),
        ({"height": 192, "width": 256}, Size(height=192, width=256)),
        (json.loads(json.dumps(PORTRAIT.to_dict())), PORTRAIT),
    ],
    ids=str,
)
def test_what_a_size_is_made_of(value, size):
    assert Size.of(value) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("192x256", r"192x256 is wider than tall; sizes are height x width; did you mean 256x192\?"),
        ((192, 256), r"\(192, 256\) is not a size; wanted height x width, for example 256x192"),
        ([256, 192], r"\[256, 192\] is not a size"),
        (256, "256 is not a size"),
        (None, "None is not a size"),
        ("", "'' is not a size"),
        ("256x", "'256x' is not a size"),
        ("256x192x3", "'256x192x3' is not a size"),
        ("-256x192", "'-256x192' is not a size"),
        ("0x0", "height is 0 and width is 0; wanted whole numbers above 0"),
        ({"height": 256}, "is not a size"),
        ({"height": 256, "width": "192"}, "height is 256 and width is '192'; wanted whole numbers"),
        ({"height": 256.0, "width": 192}, "height is 256.0"),
        ({"height": True, "width": 1}, "height is True"),
    ],
    ids=str,
)
def test_what_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        Size.of(value)


def test_sides_have_to_be_named():
    with pytest.raises(TypeError):
        Size(256, 192)  # pyright: ignore[reportCallIssue]
