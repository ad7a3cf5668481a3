"""What stands beside weights: how they were made, from which data under which terms, and what they reached."""

from __future__ import annotations

import json
import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from featherpose.data.terms import TEACHER, TERMS
from featherpose.networks.checkpoints import read_metadata
from featherpose.skeleton import SKELETONS
from featherpose.train.recipe import Recipe, to_dict
from featherpose.train.schedule import Epoch
from featherpose.train.tasks.pose import Labelled, codec_of


def metadata(recipe: Recipe, labelled: Labelled, epoch: Epoch, result: dict[str, Any]) -> dict[str, str]:
    """What a weights file says of itself: all that the export needs, each value as JSON."""
    skeleton, codec = SKELETONS[recipe.skeleton], codec_of(recipe, epoch.stage)
    facts = {
        "network": recipe.network,
        "options": recipe.options,
        "num_keypoints": skeleton.num_joints,
        "skeleton": skeleton.to_dict(),
        "size": list(epoch.stage.size),
        "codec": {"name": codec.name, "stride": codec.stride, "sigma": codec.sigma, "unbiased": codec.unbiased},
        "recipe": {"digest": recipe.digest, **to_dict(recipe)},
        "training": training(recipe, labelled),
        "results": result,
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def training(recipe: Recipe, labelled: Labelled) -> dict[str, Any]:
    """Which people were trained on, and under which terms; weights that were started from bring theirs along."""
    sources = Counter(labelled.samples[row].source for row in labelled.training)
    terms = [TERMS.get(source, f"{source}: terms unknown") for source in sorted(sources)]
    teacher = TEACHER if recipe.data.labels == "mixed" else None
    own: dict[str, Any] = {"people": dict(sorted(sources.items())), "terms": terms, "teacher": teacher}
    return {**own, **_before(recipe.init, terms)} if recipe.init else own


def _before(init: str, terms: list[str]) -> dict[str, Any]:
    """Weights that a run started from -> what they say of themselves, and the terms of both together."""
    facts = {key: json.loads(value) for key, value in read_metadata(init).items()}
    earlier = {key: facts[key] for key in ("recipe", "training", "results") if key in facts}
    return {"before": earlier, "terms": sorted({*terms, *facts.get("training", {}).get("terms", [])})}


def card(recipe: Recipe, labelled: Labelled, facts: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The run card: recipe, data, versions, hours and every validation."""
    return {
        "recipe": to_dict(recipe),
        "recipe_digest": recipe.digest,
        "training": training(recipe, labelled),
        "validation_people": len(labelled.validation),
        "versions": {name: version(name) for name in ("featherpose", "torch", "numpy", "opencv-python-headless")},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "device": str(device)},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours": round(facts["seconds"] / 3600, 2),
        "best": facts["best"],
        "history": facts["history"],
    }
