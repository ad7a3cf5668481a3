"""Measure what the keypoint scores of shipped models mean, on the validation set, and write it into their cards.

    FEATHERPOSE_DATA=../shared python tools/calibrate.py feather_pose-192x128

The scores themselves are not changed. `tools/ship.py` writes the same entry for new weights.
"""

import argparse
import json

from ship import WEIGHTS, keypoint_scores

from featherpose import files
from featherpose.exporting import open_weights


def calibrate(name: str) -> dict[str, object]:
    """Name of a shipped model -> the entry, which replaces the one in its card."""
    card = WEIGHTS / f"{name}.json"
    facts = json.loads(card.read_text(encoding="utf-8"))
    model, manifest = open_weights(card.with_suffix(".safetensors"))
    entry = keypoint_scores(model, manifest, name)
    files.replace(card, (json.dumps({**facts, "keypoint_scores": entry}, indent=1) + "\n").encode())
    return entry


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    for model_name in parser.parse_args().names:
        print(model_name, json.dumps(calibrate(model_name)))
