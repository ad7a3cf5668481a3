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


@pytest.mark.parametrize(("data", "value"), [(b"[]", []), ('{"a": "é"}'.encode(), {"a": "é"})], ids=["empty", "utf-8"])
def test_json_files_are_read(tmp_path, data, value):
    (tmp_path / "a.json").write_bytes(data)
    assert files.read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, r"a\.json: cannot be read \(No such file or directory\)\. Type --boxes\.$", id="missing"),
        pytest.param(b"", r"a\.json: not JSON \(.*\)\. Type --boxes\.$", id="empty"),
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
