"""Writing files so that they are whole or not there."""

import os
import threading
from pathlib import Path

from featherpose.errors import InputError


def replace(path: Path, data: bytes) -> None:
    """Path and bytes -> a file that is complete or as it was: written beside it, flushed, renamed."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror}). Choose another folder.") from None
    finally:
        part.unlink(missing_ok=True)
