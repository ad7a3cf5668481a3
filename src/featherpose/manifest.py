"""The manifest: the description of an exported model, one JSON text inside the .onnx file.

The runtime knows nothing about a model that the manifest does not contain. The text is stored in the file's metadata
under the key "featherpose"; `read_manifest` finds it without an engine and without reading the weights. Each kind of
model (`kinds`) has a class of its own here, with the fields that it needs beside the common ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from featherpose import files
from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Codec
from featherpose.crop import MODES, PADDING
from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.kinds import BOTTOM_UP, DETECTOR, KINDS, POSE, POSES, SIDE_MULTIPLE, Tensor, grouping_map
from featherpose.letterbox import Fit
from featherpose.onnx_metadata import MalformedFile, find_text
from featherpose.size import Size
from featherpose.skeleton import Skeleton

VERSION = 2
_TYPES: dict[str, tuple[type, ...]] = {
    **{"network": (str,), "options": (dict,), "input_size": (dict,), "crop_mode": (str,), "padding": (int, float)},
    **{"codec": (dict,), "skeleton": (dict,), "long_side": (int,), "conf": (int, float), "recipe": (dict,)},
    **{"training": (dict,), "accuracy": (list,), "parity": (dict,), "antialias": (bool,), "letterbox": (dict,)},
}
"""Types of the fields in JSON."""
_EXPORT = "Create one with `featherpose export`."


@dataclass(frozen=True, kw_only=True)
class Manifest(ABC):
    """What the file of a model of any kind says, to run, evaluate and cite it.

    `recipe` is the training recipe with its digest; `training` the data and their terms; `accuracy` one dict per
    measurement; `parity` the differences between onnxruntime and torch. docs/model-format.md has the JSON schema.
    """

    kind: ClassVar[str]
    """Key of `kinds.KINDS`."""
    nullable: ClassVar[frozenset[str]] = frozenset()
    """Fields that may be null."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Fields that older files of this version lack: left out of the JSON where they have their default."""

    network: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    accuracy: tuple[dict[str, Any], ...] = ()
    parity: dict[str, Any] = field(default_factory=dict[str, Any])
    version: int = VERSION

    def __post_init__(self) -> None:
        self._check()

    @abstractmethod
    def _check(self) -> None:
        """ModelError unless the fields of this kind fit together."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs of the graph."""
        return KINDS[self.kind].outputs

    @property
    def sizes(self) -> dict[str, int]:
        """The letters in the shapes of input and outputs (`kinds.Kind`) whose values are fixed in the file."""
        return {}

    def to_json(self) -> str:
        """Manifest -> JSON text; equal manifests give equal text."""
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name in self.added}
        left_out = {name for name, default in defaults.items() if getattr(self, name) == default}
        values = {"kind": self.kind, **dataclasses.asdict(self)}
        values = {name: value for name, value in values.items() if name not in left_out}
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """JSON text from `to_json` -> the manifest of its kind.

        ModelError for unknown versions and kinds, and for unknown or missing keys.
        """
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"the manifest is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ModelError("the manifest is not a JSON object")
        _refuse_version(values.get("version"))
        _refuse_unknown("kind", str(values.get("kind")), MANIFESTS)
        manifest = MANIFESTS[values["kind"]]
        _refuse_keys(values, ["kind", *(f.name for f in dataclasses.fields(manifest))], manifest.added)
        _refuse_types(values, manifest.nullable)
        try:
            return manifest(**_field_values(values))
        except (TypeError, AttributeError, InputError) as error:
            raise ModelError(f"the manifest has a value of a wrong type ({error})") from None


@dataclass(frozen=True, kw_only=True)
class PoseManifest(Manifest):
    """A model that predicts the keypoints of one person in each crop.

    `input_size` is that of a crop in px; `codec` the codec's name and its parameters, None for a graph that gives
    keypoints without heatmaps; `padding` the factor by which a crop is larger than its box; `antialias` whether a large
    image is averaged down before it is cropped, which other projects do not do.
    """

    kind: ClassVar[str] = POSE.name
    nullable: ClassVar[frozenset[str]] = frozenset({"codec"})
    added: ClassVar[frozenset[str]] = frozenset({"antialias"})

    skeleton: Skeleton
    input_size: Size
    codec: dict[str, Any] | None
    crop_mode: str = "msra"
    padding: float = PADDING
    antialias: bool = True

    def _check(self) -> None:
        """ModelError unless codec and crop mode are known and fit together."""
        _refuse_unknown("crop_mode", self.crop_mode, MODES)
        if not self.padding > 0:
            raise ModelError(f"padding is {self.padding}, wanted a factor above 0")
        if self.codec is not None:
            _refuse_unknown("codec", str(self.codec.get("name")), CODECS)
            self.make_codec()

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs of the graph: no heatmaps without a codec."""
        return tuple(output for output in super().outputs if self.codec is not None or output.name != "heatmaps")

    @property
    def sizes(self) -> dict[str, int]:
        """H and W of a crop, K, and h and w of a heatmap."""
        sizes = {"H": self.input_size.height, "W": self.input_size.width, "K": self.skeleton.num_keypoints}
        if self.codec is None:
            return sizes
        cells = self.make_codec().heatmap_size
        return {**sizes, "h": cells.height, "w": cells.width}

    def make_codec(self) -> Codec:
        """The codec that decodes this model's heatmaps to keypoints; ModelError for a model without heatmaps."""
        if self.codec is None:
            raise ModelError(f"{self.network} gives keypoints without heatmaps; leave out flip_test and blur_kernel")
        parameters: dict[str, Any] = {k: v for k, v in self.codec.items() if k != "name"}
        try:
            codec = CODECS[self.codec["name"]](size=self.input_size, **parameters)
        except TypeError as error:
            raise ModelError(f"codec {self.codec} cannot be built ({error})") from None
        if codec.crop_mode != self.crop_mode:
            raise ModelError(f"codec {self.codec} does not fit crop_mode {self.crop_mode!r}")
        return codec


@dataclass(frozen=True, kw_only=True)
class ImageManifest(Manifest):
    """A model that takes a whole image, scaled to a long side of `long_side` px and placed as `letterbox` says.

    Persons with a score below `conf` are left out where no other threshold is given.
    """

    added: ClassVar[frozenset[str]] = frozenset({"letterbox"})

    long_side: int
    conf: float
    letterbox: Fit = Fit()

    def _check(self) -> None:
        """ModelError for sizes that the graph cannot take, and for a threshold that is not a score."""
        if self.long_side < SIDE_MULTIPLE or self.long_side % SIDE_MULTIPLE:
            raise ModelError(f"long_side is {self.long_side}, wanted a multiple of {SIDE_MULTIPLE} pixels")
        if not 0 <= self.conf <= 1:
            raise ModelError(f"conf is {self.conf}, wanted a score from 0 to 1")

    @property
    def sizes(self) -> dict[str, int]:
        """H and W where every input is a square of `long_side`."""
        if self.letterbox.shape == "multiple":
            return {}
        return {"H": self.long_side, "W": self.long_side}


@dataclass(frozen=True, kw_only=True)
class DetectorManifest(ImageManifest):
    """A model that finds the boxes of persons. `skeleton` is that of its training data, where they have one."""

    kind: ClassVar[str] = DETECTOR.name
    nullable: ClassVar[frozenset[str]] = frozenset({"skeleton"})

    skeleton: Skeleton | None = None


@dataclass(frozen=True, kw_only=True)
class PosesManifest(ImageManifest):
    """A model that finds the boxes and keypoints of persons in one stage."""

    kind: ClassVar[str] = POSES.name

    skeleton: Skeleton

    @property
    def sizes(self) -> dict[str, int]:
        """K, and the sides of the input where they are fixed."""
        return {**super().sizes, "K": self.skeleton.num_keypoints}


@dataclass(frozen=True, kw_only=True)
class BottomUpManifest(ImageManifest):
    """A model whose maps a grouping codec turns into poses.

    `codec` has the codec's `name`, the names of the `maps` that it takes, and its parameters.
    """

    kind: ClassVar[str] = BOTTOM_UP.name

    skeleton: Skeleton
    codec: dict[str, Any]

    def _check(self) -> None:
        """As for every kind that takes an image; the codec must name itself and its maps."""
        super()._check()
        if not isinstance(self.codec.get("name"), str):
            raise ModelError(f"codec {self.codec} has no name")
        maps: Any = self.codec.get("maps")
        named = isinstance(maps, list) and all(isinstance(name, str) for name in maps)
        if not named or not maps or len(set(maps)) < len(maps):
            raise ModelError(f"the maps of codec {self.codec['name']!r} are {maps!r}, wanted a list of different names")

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The maps that the codec names."""
        return tuple(grouping_map(name) for name in self.codec["maps"])


MANIFESTS: dict[str, type[Manifest]] = {
    manifest.kind: manifest for manifest in (PoseManifest, DetectorManifest, PosesManifest, BottomUpManifest)
}
"""Kind of model -> the class of its manifest."""

M = TypeVar("M", bound=Manifest)


def of_kind(manifest: Manifest, wanted: type[M], path: str | os.PathLike[str]) -> M:
    """The manifest of the file at `path`, if it is of the wanted kind; otherwise ModelError."""
    if not isinstance(manifest, wanted):
        option = "--detector" if wanted.kind == DETECTOR.name else "--model"
        raise ModelError(
            f"{path}: {manifest.network} is a model of kind {manifest.kind}, wanted one of kind {wanted.kind}; choose"
            f" another {option}."
        )
    return manifest


def _refuse_version(version: object) -> None:
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        remedy = "type: pip install --upgrade featherpose" if newer else "export the model again: featherpose export"
        raise ModelError(f"the manifest has version {version!r}, this featherpose reads version {VERSION}; {remedy}")


def _refuse_unknown(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise ModelError(f"{what} {value!r} is unknown.{did_you_mean(value, known)}")


def _refuse_keys(values: dict[str, Any], wanted: list[str], added: frozenset[str]) -> None:
    missing = [name for name in wanted if name not in values and name not in added]
    if missing:
        raise ModelError(f"the manifest lacks {', '.join(missing)}")
    unknown = [name for name in values if name not in wanted]
    if unknown:
        raise ModelError(f"the manifest has an unknown key {unknown[0]!r}.{did_you_mean(unknown[0], wanted)}")


def _refuse_types(values: dict[str, Any], nullable: frozenset[str]) -> None:
    given = [name for name in values if not (values[name] is None and name in nullable)]
    wrong = [name for name in given if name in _TYPES and type(values[name]) not in _TYPES[name]]
    if not wrong and any(type(entry) is not dict for entry in values["accuracy"]):
        wrong = ["accuracy"]
    if wrong:
        raise ModelError(f"the manifest has a value of a wrong type ({wrong[0]}: {values[wrong[0]]!r})")


def _field_values(values: dict[str, Any]) -> dict[str, Any]:
    """Values in JSON -> values of the fields."""
    fields = {name: value for name, value in values.items() if name != "kind"}
    fields["accuracy"] = tuple(fields["accuracy"])
    if "input_size" in fields:
        fields["input_size"] = Size(**fields["input_size"])
    if "letterbox" in fields:
        fields["letterbox"] = Fit(**fields["letterbox"])
    if fields.get("skeleton") is not None:
        fields["skeleton"] = Skeleton.from_dict(fields["skeleton"])
    return fields


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Path of an exported .onnx file -> its manifest; ModelError if the file was not exported by featherpose."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = find_text(file, os.fstat(file.fileno()).st_size)
    except MalformedFile as error:
        if mistaken := files.mistaken_for(path):
            raise ModelError(f"{path}: it is {mistaken}.") from None
        raise ModelError(f"{path}: not a complete ONNX file ({error}). Copy it again. {_EXPORT}") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). {_EXPORT}") from None
    if text is None:
        raise ModelError(
            f"{path}: not a featherpose model: no manifest found. {_EXPORT[:-1]}, or of another project's model with"
            " `featherpose adopt`."
        )
    try:
        return Manifest.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
