"""A model's manifest in rows for the terminal: what it takes and gives, its training, accuracy, parity and terms.

Keys of `recipe`, `training`, `accuracy` and `parity` may be missing or new (docs/model-format.md): what is not there is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featherpose.kinds import KINDS, Tensor
from featherpose.manifest import DetectorManifest, ImageManifest, Manifest, PoseManifest

Row = tuple[str, str]
"""A subject, empty where it is that of the row above, and a line about it."""
INTERVAL = "_interval"
"""End of the key that has the confidence interval of a score."""
_ABOUT_THE_MEASUREMENT = ("step", "epoch", "hours", "num_images", "num_instances")


def rows_of(manifest: Manifest) -> list[Row]:
    """Manifest -> its rows, top to bottom."""
    training = manifest.training
    return [
        ("network", _with_options(manifest.network, manifest.options)),
        ("kind", manifest.kind),
        ("input", _shape(KINDS[manifest.kind].input, manifest)),
        *_rows("outputs", [_shape(output, manifest) for output in manifest.outputs]),
        *_rows("use", _use(manifest)),
        *_rows("original", [f"{key} {training[key]}" for key in ("source", "sha256") if key in training]),
        *_rows("trained on", _data(training)),
        *_rows("runs", _runs(manifest.recipe, training)),
        *_rows("accuracy", [line for entry in manifest.accuracy for line in _scores(entry)]),
        *_rows("parity", _parity(manifest.parity)),
        *_rows("terms", training.get("terms") or []),
    ]


def _rows(subject: str, lines: list[str]) -> list[Row]:
    return [("" if number else subject, line) for number, line in enumerate(lines)]


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}: {_listed(options)}" if options else name


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _shape(tensor: Tensor, manifest: Manifest) -> str:
    sides = ", ".join(map(str, tensor.shape_of(manifest.sizes)))
    return f"{tensor.name}: {tensor.dtype} ({sides})"


def _use(manifest: Manifest) -> list[str]:
    """How a person or an image becomes the input, and what the output means."""
    lines: list[str] = []
    if isinstance(manifest, PoseManifest):
        codec = _listed(manifest.codec) if manifest.codec else "none"
        lines.append(f"padding {manifest.padding:g}, crop mode {manifest.crop_mode}, codec {codec}")
    elif isinstance(manifest, ImageManifest):
        lines.append(f"longer side {manifest.long_side} px; who has a score below {manifest.conf:g} is left out")
    skeleton = getattr(manifest, "skeleton", None)
    if skeleton is not None and not isinstance(manifest, DetectorManifest):
        lines.append(f"keypoints of {skeleton.name}: {', '.join(skeleton.keypoint_names)}")
    return lines


def _data(training: Mapping[str, Any]) -> list[str]:
    samples: Mapping[str, int] = training.get("samples") or {}
    lines = [f"{sum(samples.values())} samples: {_listed(samples)}"] if samples else []
    return [*lines, training["teacher"]] if training.get("teacher") else lines


def _runs(recipe: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """The last run, those before it that it started from, and the weights that the first one started from."""
    lines: list[str] = []
    while recipe or training:
        stages = [f"{stage['epochs']} epochs at {_input_of(stage)}" for stage in recipe.get("stages") or []]
        if stages:
            digest = f" (recipe {recipe['digest']})" if "digest" in recipe else ""
            lines.append(("after " if lines else "") + ", then ".join(stages) + digest)
        before = training.get("pretrained") or {}
        if "weights" in before:
            lines.append(f"after {before['weights']}")
        recipe, training = before.get("recipe") or {}, before.get("training") or {}
    return lines


def _input_of(stage: Mapping[str, Any]) -> str:
    return str(stage["input_size"]) if "input_size" in stage else f"{stage['long_side']} px"


def _scores(entry: Mapping[str, Any]) -> list[str]:
    """A measurement -> its scores, with intervals where it has them, and the command that repeats it."""
    values = {**entry, **entry.get("percent", {})}
    scores = [
        f"{key} {value:.3g}" + _interval(values.get(key + INTERVAL))
        for key, value in values.items()
        if isinstance(value, int | float) and key not in _ABOUT_THE_MEASUREMENT
    ]
    lines = [f"{entry.get('data', 'unnamed data')}: {', '.join(scores)}"]
    return [*lines, f"    {entry['command']}"] if "command" in entry else lines


def _interval(ends: list[float] | None) -> str:
    return f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else ""


def _parity(parity: Mapping[str, Any]) -> list[str]:
    """The largest differences from torch, or from the original of an adopted model; of an int8 file its scores."""
    if "int8" in parity:
        found = parity["int8"]
        mean, low, high = found["difference"]
        difference = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        return [f"int8: {found['score']} {found['int8']:.1f}, float32 {found['float32']:.1f}: {difference}"]
    allowed: Mapping[str, float] = parity.get("allowed") or {}
    lines = [f"{name} {parity[name]:.2g}, allowed {limit:g}" for name, limit in allowed.items() if name in parity]
    engines = _listed(parity.get("engines") or {})
    return ["; ".join(lines) + (f" ({engines})" if engines else "")] if lines else []
