"""The manifest: what an exported model says about itself, as one JSON text inside the .onnx file.

Whatever runs a model knows about it what stands here and nothing else. The text lies among the file's metadata under
the key "featherpose"; `read_manifest` finds it without an engine and without reading the weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from featherpose.codecs import CODECS, Codec
from featherpose.crop import MODES
from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.skeleton import Skeleton

KEY = "featherpose"
VERSION = 1
KINDS = ("pose",)
_LARGEST = 1 << 24  # bytes of one metadata entry; a manifest has some thousands
_EXPORT = "Make one with `featherpose export`."


@dataclass(frozen=True)
class Manifest:
    """Everything that must be known to run, judge and cite an exported model.

    `input_size` is (width, height) px; `codec` is the codec's name and its parameters (size may be left
    out: it is the input's); `recipe` names the training
    recipe and its hash; `training` the data and their terms; `accuracy` one dict per measurement (what, on which data,
    with which command, when); `parity` how far the engine's results are from torch's.
    """

    network: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    codec: dict[str, Any]
    crop_mode: str = "msra"
    padding: float = 1.25
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    accuracy: tuple[dict[str, Any], ...] = ()
    parity: dict[str, Any] = field(default_factory=dict[str, Any])
    kind: str = "pose"
    version: int = VERSION

    def __post_init__(self) -> None:
        _refuse_unknown("kind", self.kind, KINDS)
        _refuse_unknown("crop_mode", self.crop_mode, MODES)
        _refuse_unknown("codec", str(self.codec.get("name")), CODECS)
        sides: list[Any] = list(self.input_size)
        if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
            raise ModelError(f"input_size is {sides}, wanted [width, height] in whole pixels")
        if not self.padding > 0:
            raise ModelError(f"padding is {self.padding}, wanted a factor above 0")
        self.make_codec()

    def make_codec(self) -> Codec:
        """The codec that turns this model's heatmaps into joints."""
        parameters: dict[str, Any] = {k: v for k, v in self.codec.items() if k != "name"}
        size = tuple(parameters.pop("size", self.input_size))
        try:
            codec = CODECS[self.codec["name"]](size=self.input_size, **parameters)
        except TypeError as error:
            raise ModelError(f"codec {self.codec} cannot be built ({error})") from None
        if (size, codec.crop_mode) != (self.input_size, self.crop_mode):
            raise ModelError(
                f"codec {self.codec} does not fit input_size {self.input_size}, crop_mode {self.crop_mode!r}"
            )
        return codec

    def to_json(self) -> str:
        """Manifest -> JSON text, the same for the same manifest."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """JSON text, as `to_json` writes it -> Manifest. Unknown versions, unknown and missing keys are refused."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"the manifest is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ModelError("the manifest is not a JSON object")
        _refuse_version(values.get("version"))
        _refuse_keys(values, [f.name for f in dataclasses.fields(cls)])
        try:
            skeleton = Skeleton.from_dict(values["skeleton"])
            values |= {"input_size": tuple(values["input_size"]), "accuracy": tuple(values["accuracy"])}
            return cls(**values | {"skeleton": skeleton})
        except (TypeError, AttributeError, InputError) as error:
            raise ModelError(f"the manifest has a value of a wrong kind ({error})") from None


def _refuse_version(version: object) -> None:
    if version != VERSION:
        raise ModelError(
            f"the manifest has version {version!r}, this featherpose reads version {VERSION}; "
            "type: pip install --upgrade featherpose, or export the model again"
        )


def _refuse_unknown(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise ModelError(f"{what} {value!r} is unknown.{did_you_mean(value, known)}")


def _refuse_keys(values: dict[str, Any], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in values]
    if missing:
        raise ModelError(f"the manifest lacks {', '.join(missing)}")
    unknown = [name for name in values if name not in wanted]
    if unknown:
        raise ModelError(f"the manifest has an unknown key {unknown[0]!r}.{did_you_mean(unknown[0], wanted)}")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Path of an exported .onnx file -> its manifest; ModelError when the file is not one of featherpose's."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = find_text(file, os.fstat(file.fileno()).st_size)
    except MalformedFile as error:
        raise ModelError(f"{path}: not a complete ONNX file ({error}). Copy it again. {_EXPORT}") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). {_EXPORT}") from None
    if text is None:
        raise ModelError(f"{path}: not a featherpose model: no manifest in it. {_EXPORT}")
    try:
        return Manifest.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


# An ONNX file is one protobuf message, ModelProto (onnx.proto). A message is a row of fields; a field is a varint
# (number << 3 | wire type) and its value. Field 7 is the graph with the weights, field 14 an entry of the metadata,
# itself a message with the key in field 1 and the value in field 2.
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_GRAPH, _METADATA = 7, 14


class MalformedFile(Exception):
    """The bytes are no protobuf message."""


def find_text(file: BinaryIO, size: int) -> str | None:
    if size == 0:
        raise MalformedFile("the file is empty")
    text, has_graph = None, False
    for number, kind, start, end in _fields(file, 0, size):
        has_graph = has_graph or (number, kind) == (_GRAPH, _BYTES)
        if (number, kind) == (_METADATA, _BYTES) and end - start <= _LARGEST:
            entry = _entry(file, start, end)
            text = entry.get(2, b"") if entry.get(1) == KEY.encode() else text
    if not has_graph:
        raise MalformedFile("no graph in it")
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
        elif kind in (_BYTES, _EIGHT_BYTES, _FOUR_BYTES):
            length = _varint(file) if kind == _BYTES else 8 if kind == _EIGHT_BYTES else 4
            value_start = file.tell()
            stop = value_start + length
        else:
            raise MalformedFile(f"an impossible field at byte {start}")
        if number == 0:
            raise MalformedFile(f"an impossible field at byte {start}")
        if stop > end:
            raise MalformedFile(f"{stop - end} bytes are missing at the end")
        yield number, kind, value_start, stop
        start = stop


def _varint(file: BinaryIO) -> int:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise MalformedFile("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise MalformedFile("an impossible number")
