"""Count every network and write the tables that `featherpose networks` and `featherpose models` read.

    python tools/make_table.py

Counted here: parameters, multiply-accumulates, default input. From tools/networks.yaml, written by hand: papers,
published scores, notes. From benchmarks/results/, written by benchmarks/latency.py: latency.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from featherpose import files
from featherpose.errors import ModelError
from featherpose.exporting.onnx import form_for_export
from featherpose.kinds import DETECTOR, POSE
from featherpose.networks import DETECTORS, NETWORKS, create_detector, create_network
from featherpose.networks.counts import count_macs, count_parameters
from featherpose.size import Size

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "src/featherpose/zoo/table.json"
FACTS = ROOT / "tools/networks.yaml"
LATENCY = ROOT / "benchmarks/results/latency.json"
MODELS_TABLE = ROOT / "src/featherpose/zoo/latency.json"
SHIPPED_LATENCY = ROOT / "benchmarks/results/latency-shipped-avx512.json"
SIZE = Size(height=256, width=192)  # for networks without a fixed input size
DETECTOR_SIZE = Size(height=320, width=320)
ALL = [*NETWORKS, *DETECTORS]


def read_facts(path: Path = FACTS) -> dict[str, Any]:
    """The hand-written file, parsed. ModelError names the networks that it does not describe."""
    facts = yaml.safe_load(path.read_text(encoding="utf-8"))
    missing = [name for name in ALL if name not in facts["networks"]]
    if missing:
        raise ModelError(f"{path.name} has no entry for {', '.join(missing)}; add one with its paper under `networks`.")
    return facts


def count(name: str, published_macs: int | None = None) -> dict[str, Any]:
    """Name of a network -> its counts at its default input; `published_macs` where the published code needs more."""
    if name in DETECTORS:
        model = create_detector(name, keypoints=False)  # as exported: the keypoint branch is for training
        size = DETECTOR_SIZE
    else:
        model = create_network(name)
        size = getattr(model, "fixed_size", None) or SIZE
    return {
        "task": DETECTOR.name if name in DETECTORS else POSE.name,
        "parameters": count_parameters(model),
        "macs": published_macs or count_macs(model, size),
        "macs_run": count_macs(form_for_export(model), size),
        "input": str(size),
    }


def describe(fact: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Entry of one network in the file -> its paper, scores with protocol, and note."""
    scores: list[dict[str, Any]] = []
    for score in fact.get("published", []):
        protocol = facts["protocols"][score["protocol"]]
        own = {key: value for key, value in score.items() if key != "protocol"}
        scores.append({"input": None, **protocol, **own})  # a score may differ from its protocol in single fields
    return {"paper": facts["papers"][fact["paper"]], "published": scores, "note": fact.get("note", "")}


def latency(name: str, size: str, path: Path = LATENCY) -> dict[str, Any]:
    """Name and input -> latency of one image in ms and the processor, both None where not measured."""
    # The counts can be written before anything is measured.
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"networks": []}
    for line in facts["networks"]:
        if (line["network"], line["input_size"]) == (name, size):
            return {"latency_ms": line["latency_ms"], "latency_on": facts["machine"]["cpu"]}
    return {"latency_ms": None, "latency_on": None}


def row(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Name of a network -> its row."""
    fact = facts["networks"][name]
    counts = count(name, fact.get("macs"))
    return {"name": name, **counts, **latency(name, counts["input"]), **describe(fact, facts)}


def shipped_latency(path: Path = SHIPPED_LATENCY) -> dict[str, Any]:
    """Latency of the shipped models, as `featherpose models` shows it."""
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    reference = facts["yardstick"]
    models = {line["network"]: {"latency_ms": line["latency_ms"], "ratio": line["ratio"]} for line in facts["networks"]}
    return {
        "cpu": facts["machine"]["cpu"],
        "reference": f"{reference['network']} at {reference['input_size']}",
        "reference_ms": reference["latency_ms"],
        "models": models,
    }


def main() -> None:
    """Write both tables; print the name of each network on stderr while it is counted."""
    facts = read_facts()
    rows: list[dict[str, Any]] = []
    for name in facts["networks"]:
        if name in ALL:  # a new network may be described before it is added
            print(name, file=sys.stderr)
            rows.append(row(name, facts))
    write(TABLE, rows)
    write(MODELS_TABLE, shipped_latency())


def write(path: Path, content: Any) -> None:
    files.replace(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
