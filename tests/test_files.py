import pytest

from featherpose import files
from featherpose.errors import InputError


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
