"""Which images: files, folders, patterns, lists on stdin, shards; images of every sort in Python."""

import io
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherpose import images
from featherpose.errors import InputError
from featherpose.records import Tally
from featherpose.runtime.sources import (
    ImageFile,
    check_several,
    find_images,
    parse_shard,
    read_source,
    select_shard,
)

FILES = ("b.jpg", "a.PNG", "sub/deep/c.webp", "sub/a.jpg", "notes.txt", ".hidden.jpg", "folder.jpg/d.gif")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files with image names; only their names count here."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(image_files: list[ImageFile]) -> list[str]:
    return [one.name for one in image_files]


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["b.jpg", "notes.txt"], ["b.jpg", "notes.txt"], id="files of any suffix, in the given order"),
        pytest.param(["sub", "b.jpg"], ["a.jpg", "deep/c.webp", "b.jpg"], id="folder before file"),
        pytest.param(["."], ["a.PNG", "b.jpg", "folder.jpg/d.gif", "sub/a.jpg", "sub/deep/c.webp"], id="folder"),
        pytest.param(["b.jpg", "./b.jpg", "sub/../b.jpg", "*.jpg"], ["b.jpg"], id="duplicates"),
        pytest.param(["*.jpg"], ["b.jpg"], id="pattern"),
        pytest.param(["[ab].*"], ["a.PNG", "b.jpg"], id="pattern with a set"),
        pytest.param(["**/*.jpg"], ["b.jpg", "sub/a.jpg"], id="pattern for any folders"),
        pytest.param(["sub/**"], ["a.jpg", "deep/c.webp"], id="everything below"),
        pytest.param(["su?/a.jpg"], ["sub/a.jpg"], id="pattern for a folder"),
        pytest.param(["none.jpg"], ["none.jpg"], id="a missing file fails when it is read"),
    ],
)
def test_sources_give_images_in_fixed_order(
    folder: Path, sources: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    image_files, failures = find_images(sources, folder / "out")
    assert (names(image_files), failures) == (found, [])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("empty", "empty: no image in this folder. Looked for .jpg", id="empty folder"),
        pytest.param("*.gif", "*.gif: no such file, and no image matches this pattern", id="pattern without match"),
        pytest.param("*.txt", "*.txt: no such file, and no image matches", id="pattern for other files"),
        pytest.param("**.jpg", "**.jpg: cannot be used as a pattern", id="bad pattern"),
        pytest.param("https://a.org/b.jpg", "https://a.org/b.jpg: addresses are not read. Download", id="address"),
        pytest.param("a\0b", "no path contains a zero byte; wanted one path per line", id="find -print0"),
        pytest.param("x" * 300, "cannot be opened (File name too long)", id="long name"),
    ],
)
def test_unusable_sources_are_listed(folder: Path, source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    image_files, failures = find_images([source, "b.jpg"], folder / "out")
    assert names(image_files) == ["b.jpg"]
    assert len(failures) == 1 and message in failures[0]


def test_linked_folders_are_found_by_folder_and_pattern(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("other").mkdir()
    Path("other/linked").symlink_to("../sub")
    Path("other/loop").symlink_to("../other")
    for source in ("other", "other/**/*.*", "other/**"):
        assert names(find_images([source], folder / "out")[0]) == ["linked/a.jpg", "linked/deep/c.webp"]
    assert names(find_images(["other/**/deep/*.webp"], folder / "out")[0]) == ["linked/deep/c.webp"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_are_counted_and_refused(folder: Path) -> None:
    (folder / "pipes").mkdir()
    os.mkfifo(folder / "pipes/e.jpg")
    (folder / "pipes/f.jpg").write_bytes(b"x")
    tally = Tally("files")
    assert names(find_images([folder / "pipes"], folder / "out", tally)[0]) == ["f.jpg"]
    assert tally.counts().summary() == "1 of 2 files used; left out: 1 pipes or devices (first e.jpg)."
    with pytest.raises(InputError, match=r"e\.jpg: a pipe or a device, wanted an image file"):
        read_source(folder / "pipes/e.jpg")


def test_folder_named_like_a_pattern_is_that_folder(folder: Path) -> None:
    (folder / "run [2]").mkdir()
    (folder / "run [2]/e.jpg").write_bytes(b"x")
    for source in (folder / "run [2]", folder / "run [2]/*.jpg"):
        assert names(find_images([source], folder / "out")[0]) == ["e.jpg"]


def test_file_named_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "[b].jpg").write_bytes(b"x")
    assert names(find_images([folder / "[b].jpg"], folder / "out")[0]) == ["[b].jpg"]


@pytest.mark.parametrize(
    ("stdin", "found"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"b.jpg\nsub\n\nb.jpg\n", ["b.jpg", "a.jpg", "deep/c.webp"], id="files and folders"),
        pytest.param(b"b.jpg\r\na.PNG", ["b.jpg", "a.PNG"], id="line ends of Windows"),
        pytest.param("b.jpg\nä".encode() + b"\xff.jpg", ["b.jpg", os.fsdecode("ä".encode() + b"\xff.jpg")], id="bytes"),
    ],
)
def test_stdin_lists_one_path_per_line(
    folder: Path, stdin: bytes, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
    assert names(find_images(["-"], folder / "out")[0]) == found


@pytest.mark.parametrize("source", [".", "**/*.jpg"])
def test_results_of_earlier_run_are_skipped(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert "sub/a.jpg" in names(find_images([source], Path("out"))[0])
    assert "sub/a.jpg" not in names(find_images([source], Path("sub"))[0])


def test_same_image_names_get_separate_results(tmp_path: Path) -> None:
    for name in ("x/img.jpg", "y/img.jpg", "z/IMG.JPG", "z/img.heic", "z/img.tif", "z/img-2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found, _ = find_images([tmp_path / "x/img.jpg", tmp_path / "y", tmp_path / "z"], tmp_path / "out")
    assert [(one.name, one.drawn_name) for one in found] == [
        ("img.jpg", "img.jpg"),
        ("img-2.jpg", "img-2.jpg"),
        ("IMG-3.JPG", "IMG-3.JPG"),
        ("img-2-2.jpg", "img-2-2.jpg"),
        ("img-4.heic", "img-4.jpg"),
        ("img-5.tif", "img-5.jpg"),
    ]


@pytest.mark.parametrize("number", [0, 1, 7, 24])
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_shards_are_disjoint_and_complete(number: int, count: int) -> None:
    items = list(range(number))
    shards = [select_shard(items, index, count) for index in range(1, count + 1)]
    assert sorted(item for shard in shards for item in shard) == items
    assert all(a < b for shard in shards for a, b in pairwise(shard))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_shard_is_read_as_part_of_the_whole() -> None:
    assert parse_shard("2/5") == (2, 5)


@pytest.mark.parametrize("shard", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/3"])
def test_invalid_shards_are_refused(shard: str) -> None:
    with pytest.raises(InputError, match=f"The shard is '{shard}', wanted I/N with I from 1 to N"):
        parse_shard(shard)


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def rotated_by_exif(pixels: np.ndarray) -> Image.Image:
    """Pillow image that is stored on its side, with the EXIF entry that says so."""
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(content, format="PNG", exif=exif)
    return Image.open(content)


class Tensor:
    """What torch's tensors are recognized by."""

    def detach(self) -> None: ...


@pytest.mark.parametrize(
    "kind", ["path", "text", "bytes", "open file", "stream", "array", "Pillow", "Pillow, rotated by EXIF"]
)
def test_every_sort_of_image_gives_rgb_pixels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(PIXELS))
    sources: dict[str, Any] = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "open file": path.open("rb"),
        "stream": io.BytesIO(path.read_bytes()),
        "array": PIXELS,
        "Pillow": Image.fromarray(PIXELS),
        "Pillow, rotated by EXIF": rotated_by_exif(PIXELS),
    }
    with sources["open file"]:
        assert np.array_equal(read_source(sources[kind]), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pillow_image_is_read_as_its_file_is(mode: str, tmp_path: Path) -> None:
    gray = Image.linear_gradient("L").resize((8, 8))
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array_equal(read_source(image), images.read(path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(None, "The image is a NoneType, wanted a path, bytes, an open file, an RGB array", id="nothing"),
        pytest.param(
            io.StringIO("text"), r"opened as text; open it in binary mode: open\(path, 'rb'\)", id="text file"
        ),
        pytest.param(Tensor(), r"is a Tensor, .*\(tensor \* 255\)\.byte\(\)\.permute\(1, 2, 0\)", id="tensor"),
        pytest.param("http://a.org/b.jpg", "addresses are not read", id="address"),
        pytest.param(Image.new("F", (2, 2)), "floating point of unknown range", id="floating point"),
        pytest.param(Image.open(io.BytesIO(png(PIXELS)[:50])), "Pillow image: truncated or damaged", id="truncated"),
    ],
)
def test_unusable_image_is_an_input_error(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_source(source)


@pytest.mark.parametrize(
    "one", ["a.jpg", b"x", Path("a.jpg"), Image.new("L", (2, 2))], ids=lambda one: type(one).__name__
)
def test_one_image_is_not_several(one: Any) -> None:
    with pytest.raises(InputError, match="estimate_all takes several images"):
        check_several(one)


def test_linked_folders_and_all_suffixes_are_found(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    for name in ("s.jpg", "cam.mpo", "old.jpe", "web.JFIF", "p.pnm"):
        (outside / name).write_bytes(b"x")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    tally = Tally("files")
    found = names(find_images([folder], folder / "out", tally)[0])
    assert [name for name in found if name.startswith("linked/")] == [
        *("linked/cam.mpo", "linked/old.jpe", "linked/p.pnm", "linked/s.jpg", "linked/web.JFIF"),
    ]
    assert not any(name.startswith("again/") for name in found)
    assert {group.reason: group.number for group in tally.counts().left_out} == {
        **{"without the suffix of an image": 1, "hidden": 1, "links that lead nowhere": 1},
    }
    assert tally.counts().used == len(found)


def test_folder_without_images_says_what_it_contains(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    _, (failure,) = find_images([tmp_path], tmp_path / "out")
    assert "no image in this folder: 1 without the suffix of an image (first a.txt)." in failure
