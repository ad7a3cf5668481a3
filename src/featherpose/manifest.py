"""The manifest: the description of an exported model, one JSON text inside the .onnx file.

The runtime knows nothing about a model that the manifest does not contain. The text is stored in the file's metadata
under the key "featherpose"; `read_manifest` finds it without an engine and without reading the weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Codec
from featherpose.crop import MODES
from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.onnx_metadata import MalformedFile, find_text
from featherpose.size import Size
from featherpose.skeleton import Skeleton

VERSION = 2
KINDS = ("pose",)
_TYPES: dict[str, tuple[type, ...]] = {
    **{"network": (str,), "options": (dict,), "input_size": (dict,), "padding": (int, float), "codec": (dict,)},
    **{"skeleton": (dict,), "recipe": (dict,), "training": (dict,), "accuracy": (list,), "parity": (dict,)},
}
"""Types of the fields in JSON."""
_EXPORT = "Create one with `featherpose export`."


@dataclass(frozen=True)
class Manifest:
    """Everything needed to run, evaluate and cite an exported model.

    `input_size` is in px; `codec` the codec's name and its parameters; `recipe` the training recipe with its digest;
    `training` the data and their terms; `accuracy` one dict per measurement; `parity` the differences between
    onnxruntime and torch. docs/model-format.md has the JSON schema.
    """

    network: str
    skeleton: Skeleton
    input_size: Size
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
        if not self.padding > 0:
            raise ModelError(f"padding is {self.padding}, wanted a factor above 0")
        self.make_codec()

    def make_codec(self) -> Codec:
        """The codec that decodes this model's heatmaps to keypoints."""
        parameters: dict[str, Any] = {k: v for k, v in self.codec.items() if k != "name"}
        try:
            codec = CODECS[self.codec["name"]](size=self.input_size, **parameters)
        except TypeError as error:
            raise ModelError(f"codec {self.codec} cannot be built ({error})") from None
        if codec.crop_mode != self.crop_mode:
            raise ModelError(f"codec {self.codec} does not fit crop_mode {self.crop_mode!r}")
        return codec

    def to_json(self) -> str:
        """Manifest -> JSON text; equal manifests give equal text."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """JSON text from `to_json` -> Manifest. ModelError for unknown versions and for unknown or missing keys."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"the manifest is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ModelError("the manifest is not a JSON object")
        _refuse_version(values.get("version"))
        _refuse_keys(values, [f.name for f in dataclasses.fields(cls)])
        _refuse_types(values)
        try:
            skeleton = Skeleton.from_dict(values["skeleton"])
            values |= {"input_size": Size(**values["input_size"]), "accuracy": tuple(values["accuracy"])}
            return cls(**values | {"skeleton": skeleton})
        except (TypeError, AttributeError, InputError) as error:
            raise ModelError(f"the manifest has a value of a wrong type ({error})") from None


def _refuse_version(version: object) -> None:
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        remedy = "type: pip install --upgrade featherpose" if newer else "export the model again: featherpose export"
        raise ModelError(f"the manifest has version {version!r}, this featherpose reads version {VERSION}; {remedy}")


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


def _refuse_types(values: dict[str, Any]) -> None:
    wrong = [name for name, types in _TYPES.items() if type(values[name]) not in types]
    if not wrong and any(type(entry) is not dict for entry in values["accuracy"]):
        wrong = ["accuracy"]
    if wrong:
        raise ModelError(f"the manifest has a value of a wrong type ({wrong[0]}: {values[wrong[0]]!r})")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Path of an exported .onnx file -> its manifest; ModelError if the file was not exported by featherpose."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = find_text(file, os.fstat(file.fileno()).st_size)
    except MalformedFile as error:
        raise ModelError(f"{path}: not a complete ONNX file ({error}). Copy it again. {_EXPORT}") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). {_EXPORT}") from None
    if text is None:
        raise ModelError(f"{path}: not a featherpose model: no manifest found. {_EXPORT}")
    try:
        return Manifest.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
