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


def read_latency() -> dict[str, Any]:
    """The latency table: cpu, reference and its latency, and by model latency_ms and ratio."""
    return json.loads((resources.files("featherpose.zoo") / "latency.json").read_text(encoding="utf-8"))


def read_model(card: Mapping[str, Any], alias: str | None, latency: Mapping[str, Any]) -> Model:
    """Card of a shipped model, its alias and the latency table (`read_latency`) -> Model."""
    # Entries without "percent" are the validation results on which the weights were selected.
    scores = {entry["data"]: entry["percent"] for entry in card["accuracy"] if "percent" in entry}
    coco = scores["coco-test"]
    mpii = scores["mpii-test"]
    measured = latency["models"].get(card["name"], {})  # empty for a model newer than the measurement
    (exported,) = (file for file in card["files"] if file["file"].endswith(".onnx"))  # exactly one
    return Model(
        name=card["name"],
        alias=alias,
        network=card["network"],
        input_size=Size(**card["input_size"]),
        bytes=exported["bytes"],
        ap=coco["ap"],
        ap_interval=tuple(coco["ap_interval"]),
        pckh=mpii["limbs"],
        pckh_interval=tuple(mpii["limbs_interval"]),
        latency_ms=measured.get("latency_ms"),
        relative_latency=measured.get("ratio"),
    )
