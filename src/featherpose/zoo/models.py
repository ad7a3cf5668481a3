"""The shipped models: what their cards and the latency table say. Read without torch and without an engine.

`latency.json` is written by `tools/make_table.py` from the measurement of `benchmarks/latency.py --shipped`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from featherpose.size import Size

Interval = tuple[float, float]
"""95 % confidence interval (bootstrap over images or persons), in percent."""


@dataclass(frozen=True)
class Model:
    """A shipped model; scores in percent on the test sets, with ground-truth boxes and without flip test."""

    name: str
    alias: str | None
    """Short name for `--model`, such as "default"."""
    network: str
    input_size: Size
    """In pixels."""
    bytes: int
    """Of the .onnx file."""
    ap: float
    """COCO AP on coco-test."""
    ap_interval: Interval
    pckh: float
    """PCKh@0.5 on mpii-test, mean over the keypoints of arms and legs."""
    pckh_interval: Interval
    latency_ms: float | None
    """One image on one thread, from uint8 crop to keypoints; None where it was not measured."""
    relative_latency: float | None
    """The same divided by that of `reference` in the same run."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class DetectorModel:
    """A shipped person detector; scores in percent on the person boxes of coco-test."""

    name: str
    alias: str | None
    """Short name for `--detector`."""
    network: str
    long_side: int
    """To which the longer side of an image is scaled, in pixels."""
    bytes: int
    """Of the .onnx file."""
    ap: float
    """COCO AP of the boxes."""
    ap_interval: Interval
    ap_large: float
    """AP of people larger than 96x96 pixels."""
    recall: float
    """Of people taller than a fifth of the image, at one false box per image."""
    false_boxes: float
    """Per image without anyone, at the model's own score threshold."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return asdict(self)


def read_latency() -> dict[str, Any]:
    """The latency table: cpu, reference and its latency, and by model latency_ms and ratio."""
    return json.loads((resources.files("featherpose.zoo") / "latency.json").read_text(encoding="utf-8"))


def read_model(card: Mapping[str, Any], alias: str | None, latency: Mapping[str, Any]) -> Model:
    """Card of a shipped model, its alias and the latency table (`read_latency`) -> Model."""
    scores = _test_scores(card)
    coco = scores["coco-test"]["percent"]
    mpii = scores["mpii-test"]["percent"]
    measured = latency["models"].get(card["name"], {})  # empty for a model newer than the measurement
    return Model(
        name=card["name"],
        alias=alias,
        network=card["network"],
        input_size=Size(**card["input_size"]),
        bytes=_exported_bytes(card),
        ap=coco["ap"],
        ap_interval=tuple(coco["ap_interval"]),
        pckh=mpii["limbs"],
        pckh_interval=tuple(mpii["limbs_interval"]),
        latency_ms=measured.get("latency_ms"),
        relative_latency=measured.get("ratio"),
    )


def read_detector(card: Mapping[str, Any], alias: str | None) -> DetectorModel:
    """Card of a shipped person detector and its alias -> DetectorModel."""
    measured = _test_scores(card)["coco-test"]
    scores = measured["percent"]
    return DetectorModel(
        name=card["name"],
        alias=alias,
        network=card["network"],
        long_side=card["long_side"],
        bytes=_exported_bytes(card),
        ap=scores["ap"],
        ap_interval=tuple(scores["ap_interval"]),
        ap_large=scores["ap_large"],
        recall=scores["recall"],
        false_boxes=measured["false_boxes"],
    )


def _test_scores(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Card -> its measurement on each test set; those without "percent" are validation results."""
    return {entry["data"]: entry for entry in card["accuracy"] if "percent" in entry}


def _exported_bytes(card: Mapping[str, Any]) -> int:
    (exported,) = (file for file in card["files"] if file["file"].endswith(".onnx"))  # exactly one
    return exported["bytes"]
