"""poses.jsonl while it grows: appending, interrupts at any byte, going on in the same file."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.formats import jsonl
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14

SIZE = Size(height=90, width=100)
NAMES = ["a.jpg", "ü.jpg", "c.jpg"]


def some_poses(number: int) -> Poses:
    values = np.random.default_rng(number).uniform(0, 1, (number, 17, 3)).round(2)
    return Poses(values[..., :2], values[..., 2], np.ones((number, 4)), np.ones(number), COCO17, SIZE)


def append_all(path: Path, names: list[str]) -> None:
    for name in names:
        jsonl.append(path, name, some_poses(NAMES.index(name)))


def test_appended_file_equals_the_written_one(tmp_path: Path) -> None:
    assert jsonl.start(tmp_path / "run" / jsonl.FILE, COCO17, "tiny") == {}
    append_all(tmp_path / "run" / jsonl.FILE, NAMES)
    jsonl.write(tmp_path, {name: some_poses(i) for i, name in enumerate(NAMES)}, COCO17, "tiny")
    assert (tmp_path / "run" / jsonl.FILE).read_bytes() == (tmp_path / jsonl.FILE).read_bytes()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("line", range(4))
def test_interrupt_anywhere_loses_one_image(line: int, share: float, tmp_path: Path) -> None:
    """The file is cut within a line; it is read, continued, and ends up complete."""
    path = tmp_path / jsonl.FILE
    jsonl.start(path, COCO17, "tiny")
    append_all(path, NAMES)
    complete = path.read_bytes()
    lines = complete.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:line]) + lines[line][: int(share * (len(lines[line]) - 2))])
    done = NAMES[: max(line - 1, 0)]
    if line > 0:
        assert list(jsonl.read(tmp_path, COCO17)) == done
    assert list(jsonl.start(path, COCO17, "tiny")) == done
    append_all(path, NAMES[len(done) :])
    assert path.read_bytes() == complete


def test_last_line_without_line_feed_is_read(tmp_path: Path) -> None:
    path = tmp_path / jsonl.FILE
    jsonl.start(path, COCO17)
    append_all(path, NAMES)
    complete = path.read_bytes()
    path.write_bytes(complete.rstrip(b"\n"))
    assert list(jsonl.read(tmp_path, COCO17)) == NAMES
    assert list(jsonl.start(path, COCO17)) == NAMES and path.read_bytes() == complete


def test_last_line_of_an_image_counts(tmp_path: Path) -> None:
    path = tmp_path / jsonl.FILE
    jsonl.start(path, COCO17)
    jsonl.append(path, "a.jpg", some_poses(1))
    jsonl.append(path, "a.jpg", some_poses(2))
    assert len(jsonl.read(tmp_path, COCO17)["a.jpg"]) == 2


def test_file_of_another_run_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / jsonl.FILE
    jsonl.start(path, COCO17, "tiny")
    with pytest.raises(InputError, match=r"poses\.jsonl: of the model 'tiny', wanted 'large'\. Choose another folder"):
        jsonl.start(path, COCO17, "large")
    with pytest.raises(InputError, match=r"line 1: the skeleton is coco17, wanted lsp14"):
        jsonl.start(path, LSP14, "tiny")
