"""The metadata of an ONNX file, read without an engine and without reading the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

KEY = "featherpose"
_LARGEST = 1 << 24  # bytes of one metadata entry; a manifest has a few thousand

# An ONNX file is one protobuf message, ModelProto (onnx.proto). A message is a sequence of fields; a field is a varint
# (number << 3 | wire type) and its value. Field 7 is the graph with the weights, field 14 a metadata entry, itself a
# message with the key in field 1 and the value in field 2.
_VARINT = 0
_BYTES = 2
_FIXED_LENGTHS = {1: 8, 5: 4}  # wire type -> bytes
_GRAPH = 7
_METADATA = 14


class MalformedFile(Exception):
    """The bytes are not a valid ONNX protobuf message."""


def find_text(file: BinaryIO, size: int) -> str | None:
    """Open ONNX file and its size in bytes -> the text under `KEY` in its metadata, None if the key is absent.

    MalformedFile if the bytes are not a complete ONNX model, or if the text is not UTF-8.
    """
    if size == 0:
        raise MalformedFile("the file is empty")
    text = None
    has_graph = False
    for number, kind, start, end in _fields(file, 0, size):
        if (number, kind) == (_GRAPH, _BYTES):
            has_graph = True
        if (number, kind) == (_METADATA, _BYTES) and end - start <= _LARGEST:
            entry = _entry(file, start, end)
            if entry.get(1) == KEY.encode():
                text = entry.get(2, b"")  # protobuf leaves an empty value out
    if not has_graph:
        raise MalformedFile("it contains no graph")
    try:
        return None if text is None else text.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedFile("the manifest is not UTF-8 text") from None


def _entry(file: BinaryIO, start: int, end: int) -> dict[int, bytes]:
    entry: dict[int, bytes] = {}
    for number, kind, value_start, value_end in _fields(file, start, end):
        if kind == _BYTES:
            file.seek(value_start)
            entry[number] = file.read(value_end - value_start)
    return entry


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The message between two offsets -> (field number, wire type, start and end of the value), one per field."""
    while start < end:
        file.seek(start)
        number, kind = divmod(_varint(file), 8)
        if kind == _VARINT:
            value_start = file.tell()
            _varint(file)
            stop = file.tell()
        elif kind == _BYTES:
            length = _varint(file)
            value_start = file.tell()
            stop = value_start + length
        elif kind in _FIXED_LENGTHS:
            value_start = file.tell()
            stop = value_start + _FIXED_LENGTHS[kind]
        else:
            raise MalformedFile(f"an invalid field at byte {start}")
        if number == 0:  # not a number of protobuf, but what a file full of zeros looks like
            raise MalformedFile(f"an invalid field at byte {start}")
        if stop > end:
            raise MalformedFile(f"{stop - end} bytes are missing at the end")
        yield number, kind, value_start, stop
        start = stop  # values are skipped by offset, so that the weights are never read


def _varint(file: BinaryIO) -> int:
    """Seven bits per byte, lowest first; the top bit means that another byte follows."""
    value = 0
    for shift in range(0, 70, 7):  # 64 bits need at most ten bytes
        byte = file.read(1)
        if not byte:
            raise MalformedFile("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise MalformedFile("an invalid number")
