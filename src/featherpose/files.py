"""Atomic file writing; locks between processes; reading and checking JSON."""

import contextlib
import errno
import json
import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

from featherpose.errors import FeatherposeError, InputError

_OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


def read_json(path: Path, wanted: str = "", *, error: type[FeatherposeError] = InputError, joined: bool = False) -> Any:
    """Path of a JSON file -> its value.

    Args:
        wanted: last sentence of the message for a file that cannot be read: what to do then.
        error: class of the error.
        joined: as in `parse_json`.
    """
    try:
        return parse_json(path.read_bytes(), joined=joined)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}). {wanted}".rstrip()) from None
    except ValueError:
        raise error(f"{path}: cannot be read (no file has this name). {wanted}".rstrip()) from None
    except InputError as problem:
        raise error(f"{path}: {problem}. {wanted}".rstrip()) from None


def parse_json(content: bytes, *, joined: bool = False) -> Any:
    """JSON in UTF-8, with a byte order mark or without, or UTF-16 -> its value; InputError for anything else.

    `joined`: lists of repeated keys of an object are joined, where Python's parser keeps the last one.
    """
    try:
        # Bytes: Windows programs also write UTF-16, and a byte order mark before UTF-8.
        return json.loads(content, object_pairs_hook=_joined if joined else None)
    except (ValueError, RecursionError) as problem:
        if not content.strip():
            raise InputError("not JSON, but empty") from None
        if mistaken := mistaken_content(content[:512]):
            raise InputError(f"not JSON, but {mistaken}") from None
        hint = "; save it as UTF-8" if isinstance(problem, UnicodeDecodeError) else ""
        raise InputError(f"not JSON ({problem}{hint})") from None


def _joined(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keys and values of an object -> the object; lists of repeated keys are joined."""
    joined: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(joined.get(key), list) and isinstance(value, list):
            joined[key] = [*joined[key], *value]
        else:
            joined[key] = value
    return joined


def is_numbers(value: Any, count: int) -> bool:
    """JSON value -> whether it is a list of `count` finite numbers."""
    return isinstance(value, list) and len(value) == count and all(is_number(number) for number in value)


def is_number(value: Any) -> bool:
    """JSON value -> whether it is a number, finite as float32. Python's parser accepts NaN; true is an int."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -3.4e38 < value < 3.4e38


def is_whole(value: Any) -> bool:
    """JSON value -> whether it is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def resolved(path: Path) -> Path:
    """Path -> the absolute path without links; not an error for links in a circle, as for `Path.resolve`."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def utf8_path(path: Path) -> Generator[Path]:
    """Path of a file -> a path of the same file for libraries that take no bytes, but valid UTF-8 alone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        yield path


def is_file(path: Path) -> bool:
    """Whether a path is a file; not an error for a name that no file can have, as for `Path.is_file`."""
    return os.path.isfile(path)  # noqa: PTH113


def mistaken_for(path: Path) -> str:
    """File that cannot be read as what it is called -> what it is instead, and what to do; "" where that is not known.

    Downloads often leave a pointer or a page in place of a model or an image.
    """
    try:
        with path.open("rb") as file:
            return mistaken_content(file.read(512))
    except OSError:
        return ""


def mistaken_content(start: bytes) -> str:
    """First bytes of a file -> as `mistaken_for`."""
    if start.startswith(b"\x1f\x8b"):
        return "compressed by gzip; unpack it with: gunzip FILE"
    start = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself; get it with: git lfs pull"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself; download the file again"
    return ""


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; InputError where that is impossible."""
    try:
        # A link to a folder that does not exist yet is followed.
        Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}). Choose another folder.") from None


def replace(path: Path, data: bytes) -> None:
    """Path and bytes -> a file that is complete or unchanged: written to a temporary file, flushed, renamed.

    A symbolic link stays, and the file that it names is replaced. A stream (`is_stream`) is opened and written.
    """
    try:
        if is_stream(path):
            with path.open("ab") as stream:
                stream.write(data)
        else:
            _replace(Path(os.path.realpath(path)) if path.is_symlink() else path, data)
    except OSError as error:
        raise write_error(path, error) from None


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or an open file of this process (/dev/stdout): nothing that can be replaced.

    Standard output is one even where the shell has sent it to a file: what is in there must not be lost.
    """
    # Unlike those of Path, these functions raise no error for a path that cannot exist.
    is_special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112, PTH113
    return is_special or str(path.absolute()).startswith(_OPEN_FILES)


def check_writable(path: Path) -> None:
    """InputError for a path where no file can be written: a folder, or one below a folder that is not writable."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, wanted a file for the results. Choose another file.")
    if is_stream(path):
        return
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"{path}: cannot be written, {nearest} is not a writable folder. Choose another file.")


def append(path: Path, line: str) -> None:
    """Path and a line of text -> the file with that line appended."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise write_error(path, error) from None


def write_error(path: Path, error: OSError) -> InputError:
    """Path and OSError -> the InputError for a file that cannot be written, with a remedy."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "Files written before are intact; free disk space and try again" if full else "Choose another folder"
    return InputError(f"{path}: could not be written ({error.strerror}). {remedy}.")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Generator[None]:
    """One process at a time holds the lock on the file; the operating system releases it when the process dies.

    BlockingIOError where another one holds it and `wait` is False. On Windows there is no lock.
    """
    with path.open("w") as file:
        try:
            import fcntl
        except ImportError:
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
