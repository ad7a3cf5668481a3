import os
from pathlib import Path

import pytest

from featherpose import files
from featherpose.errors import DataError, InputError


def test_replace_overwrites_the_file(tmp_path):
    files.replace(tmp_path / "a.json", b"old")
    files.replace(tmp_path / "a.json", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"new")]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    files.replace(tmp_path / "a.json", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.json: could not be written \(No space left"):
        files.replace(tmp_path / "a.json", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"old")]


@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "to nothing yet"])
def test_symbolic_link_stays_and_its_target_is_replaced(tmp_path, exists):
    target = tmp_path / "far" / "b.json"
    target.parent.mkdir()
    if exists:
        target.write_bytes(b"old")
    (tmp_path / "a.json").symlink_to("far/b.json")
    files.replace(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").is_symlink() and target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "b.json", "far"]


def test_devices_and_pipes_are_written_not_replaced(tmp_path):
    files.replace(Path("/dev/null"), b"new")
    with pytest.raises(InputError, match=r"/dev/full: could not be written \(No space left"):
        files.replace(Path("/dev/full"), b"new")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.check_writable(tmp_path / "pipe")
    files.replace(tmp_path / "pipe", b"new")
    assert os.read(reader, 9) == b"new"
    os.close(reader)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"] and (tmp_path / "pipe").is_fifo()


def test_output_that_the_shell_sends_to_a_file_is_kept(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before ")
        log.flush()
        files.replace(Path(f"/dev/fd/{log.fileno()}"), b"new")
    assert (tmp_path / "log").read_bytes() == b"before new"


@pytest.mark.parametrize(("data", "value"), [(b"[]", []), ('{"a": "é"}'.encode(), {"a": "é"})], ids=["empty", "utf-8"])
def test_json_files_are_read(tmp_path, data, value):
    (tmp_path / "a.json").write_bytes(data)
    assert files.read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, r"a\.json: cannot be read \(No such file or directory\)\. Type --boxes\.$", id="missing"),
        pytest.param(b"", r"a\.json: not JSON, but empty\. Type --boxes\.$", id="empty"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n", "not JSON, but a pointer of Git LFS", id="pointer"
        ),
        pytest.param(b"<!DOCTYPE html>", "not JSON, but a web page", id="page"),
        pytest.param(b"\x1f\x8b\x08", "not JSON, but compressed by gzip", id="compressed"),
        pytest.param(b'"caf\xe9"', "not JSON .*; save it as UTF-8", id="Latin-1"),
        pytest.param(b'{"a": [1,', "not JSON", id="cut off"),
        pytest.param(b"\xff\x00", "not JSON", id="binary"),
    ],
)
def test_unreadable_json_files_are_named(tmp_path, data, message):
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        files.read_json(path, "Type --boxes.")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"[^ ]$"):
        files.read_json(path, error=DataError)
