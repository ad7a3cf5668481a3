"""Where files of a data set are written: a local folder, or any address that fsspec knows (s3://, gs://, memory://)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from featherpose import files
from featherpose.errors import InputError, MissingExtra


class Store(Protocol):
    """A folder of files, each written whole or not at all."""

    def names(self) -> set[str]:
        """Names of the files in it."""
        ...

    def read(self, name: str) -> bytes:
        """Name of a file in it -> its content."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file."""
        ...


def open_store(address: str) -> Store:
    """Path of a folder, which is created, or an address with :// -> Store; MissingExtra where fsspec is missing."""
    return _Remote(address) if "://" in address else _Local(Path(address))


class _Local:
    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._folder = folder

    def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        files.replace(self._folder / name, data)


class _Remote:
    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise MissingExtra(f"Writing to {address}", "scale") from None
        self._address = address
        try:
            found: tuple[Any, str] = url_to_fs(address)
            self._system, self._root = found
            self._system.makedirs(self._root, exist_ok=True)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"{address}: cannot be opened ({error}). Check the address and its library.") from None

    def names(self) -> set[str]:
        found: list[str] = self._system.ls(self._root, detail=False)
        return {path.rstrip("/").rpartition("/")[2] for path in found}

    def read(self, name: str) -> bytes:
        return self._system.cat_file(f"{self._root}/{name}")

    def write(self, name: str, data: bytes) -> None:
        # Object stores show a file when all of it is there.
        try:
            self._system.pipe_file(f"{self._root}/{name}", data)
        except OSError as error:
            raise InputError(
                f"{self._address}/{name}: could not be written ({error}). Run it again to resume."
            ) from None
