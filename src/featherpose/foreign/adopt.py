"""Adoption: a file of another project in, one file of featherpose out, proven equal, or none."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from featherpose import files
from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.foreign.families import FAMILIES
from featherpose.foreign.family import Candidate, Request, read_options
from featherpose.foreign.original import Original, read_original
from featherpose.foreign.proof import prove
from featherpose.manifest import Manifest
from featherpose.onnx_metadata import KEY
from featherpose.size import Size
from featherpose.skeleton import Skeleton

SUFFIX = ".featherpose.onnx"
_TELLING_SIDES = ("2", "3", "4", "5", "57", "85")
"""Last sides that say what a row holds; others are sizes and numbers of classes."""


def adopt(
    path: Path,
    family: str,
    out: Path | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    license: str | None = None,
    skeleton: Skeleton | None = None,
    input_size: Size | None = None,
) -> tuple[Path, Manifest]:
    """File of another project and its family -> path of the written file and its manifest.

    Args:
        out: None: beside the file, NAME.featherpose.onnx.
        options: of the family, by name.
        license: terms of the file, as the user states them.
        skeleton: of the training data; None: the family's.
        input_size: of a file that takes any size.

    Raises:
        InputError: an unknown family or option, a skeleton that does not fit, or `out` that cannot be written.
        ModelError: a file of another layout, or one whose equality could not be proven.
    """
    if family not in FAMILIES:
        raise InputError(f"There is no family {family!r}.{did_you_mean(family, FAMILIES)}")
    out = out or path.with_name(path.name.removesuffix(".onnx") + SUFFIX)
    if out.suffix != ".onnx":
        raise InputError(f"{out}: the written file must be named *.onnx, for example {out.stem}.onnx.")
    if out.resolve() == path.resolve():
        raise InputError(f"{out}: would replace the original; choose another name.")
    files.check_writable(out)
    values = read_options(family, FAMILIES[family].options, options or {})
    original = read_original(path)
    request = Request(_facts(original, family, asdict(values), license), skeleton, input_size)
    candidate = _candidate(original, family, values, request)
    manifest = _proven(candidate, original)
    files.replace(out, with_manifest(candidate.model, manifest))
    return out, manifest


def with_manifest(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """ONNX model and its manifest -> the bytes of the file."""
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=manifest.to_json())
    return model.SerializeToString()


def _facts(original: Original, family: str, options: dict[str, Any], license: str | None) -> dict[str, Any]:
    """Fields of the manifest that say where the model comes from."""
    return {
        "network": original.path.name.removesuffix(".onnx"),
        # As JSON has them, so that the manifest equals the one that is read from the file.
        "options": {"family": family, **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}},
        "training": {
            "source": original.path.name,
            "sha256": original.digest,
            "terms": [] if license is None else [license],
        },
    }


def _candidate(original: Original, family: str, values: Any, request: Request) -> Candidate:
    """The wrapped model; ModelError that shows the file's inputs and outputs if it is of another family."""
    try:
        if not original.inputs:
            raise ModelError(f"{original.path}: its graph has no input.")
        return FAMILIES[family].make(original, values, request)
    except ModelError as error:
        raise ModelError(
            f"{error} A file of family {family} has {FAMILIES[family].layouts[0]}; this one has {original.layout}."
            f" Nearest family: {nearest_family(original)}."
        ) from None


def nearest_family(original: Original) -> str:
    """The family with the known file whose names, types and shapes are the most similar."""
    features = _features(original.layout)

    def similarity(family: str) -> float:
        known = [_features(layout) for layout in FAMILIES[family].layouts]
        return max((features & other).total() / (features | other).total() for other in known)

    return max(FAMILIES, key=similarity)


def _features(layout: str) -> Counter[tuple[str, ...]]:
    """Inputs and outputs in one line -> their names, and their types with the number of sides and the last side."""
    features: Counter[tuple[str, ...]] = Counter()
    for part, values in zip(("input", "output"), layout.split(" -> "), strict=True):
        for name, dtype, shape in re.findall(r"(\S+) (\w+) \((.*?)\)", values):
            sides = shape.split(", ")
            rank = str(len(sides))
            last = sides[-1] if sides[-1] in _TELLING_SIDES else ""
            features.update([(part, name), (part, dtype, rank), (part, dtype, rank, last)])
    return features


def _proven(candidate: Candidate, original: Original) -> Manifest:
    """The candidate's manifest with the record of the proof; ModelError if it fails."""
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        draft = Path(folder) / "adopted.onnx"
        draft.write_bytes(with_manifest(candidate.model, candidate.manifest))
        try:
            parity = prove(candidate, draft)
        except ModelError as error:
            text = str(error).replace(str(draft), "the written graph")
            raise ModelError(f"{original.path}: {text}") from None
    return replace(candidate.manifest, parity=parity)
