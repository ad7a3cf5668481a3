"""Run card and metadata of the weights: how they were trained, on which data, under which terms, with which scores."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from featherpose import weights
from featherpose.charts import METRIC_NAMES, format_score
from featherpose.data.terms import CHECKPOINTS, TERMS
from featherpose.networks.checkpoints import read_facts, to_metadata
from featherpose.recipes.recipe import Recipe, to_dict
from featherpose.recipes.schedule import Epoch
from featherpose.size import Size
from featherpose.training.state import RunState
from featherpose.training.task import StageData, Task

PATHS = (("data", "folder"), ("data", "val_folder"), ("pretrained",), ("skeleton",), ("distill", "teacher"))
"""Fields of a recipe that may hold a path of this machine."""


def metadata(task: Task, epoch: Epoch, result: dict[str, Any]) -> dict[str, str]:
    """Metadata of a weights file: the manifest that the exported file will have, and a validation result."""
    recipe = {"digest": task.recipe.digest, **_without_paths(task.recipe)}
    return to_metadata(task.describe(epoch.stage, recipe=recipe, training=training(task)), result)


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """The recipe without folders of this machine: files by name only."""
    plain = to_dict(recipe)
    if "folders" in plain["data"]:
        plain["data"]["folders"] = [Path(folder).name for folder in plain["data"]["folders"]]
    for *parents, field in PATHS:
        section = plain
        for parent in parents:
            section = section.get(parent, {})
        if field in section:
            section[field] = Path(section[field]).name
    return plain


def training(task: Task) -> dict[str, Any]:
    """Training samples by source and their terms, including those of the pretrained weights."""
    sources = Counter(task.sources)
    terms = terms_of(sources)
    facts: dict[str, Any] = {
        "samples": dict(sorted(sources.items())),
        "terms": terms,
        "teacher": "; ".join(task.teachers) or None,
    }
    pretrained = task.recipe.pretrained
    return {**facts, **_pretrained_facts(pretrained, terms)} if pretrained else facts


def terms_of(sources: Iterable[str]) -> list[str]:
    """Names of data sets, in any order and repeated -> the terms of each."""
    return [TERMS.get(source, f"{source}: terms unknown") for source in sorted(set(sources))]


def _pretrained_facts(pretrained: str, terms: list[str]) -> dict[str, Any]:
    """Pretrained weights -> their metadata, and the terms of both data sets together."""
    path = weights.find_pretrained(pretrained)
    facts = read_facts(path)
    if not facts:
        checkpoint_terms = CHECKPOINTS.get(path.name, f"{path.name}: terms unknown")
        return {"pretrained": {"weights": path.name}, "terms": [*terms, checkpoint_terms]}
    earlier = {key: facts[key] for key in ("recipe", "training", "results") if key in facts}
    return {"pretrained": earlier, "terms": sorted({*terms, *facts.get("training", {}).get("terms", [])})}


def card(task: Task, state: RunState, device: torch.device, data: StageData | None = None) -> dict[str, Any]:
    """The run card: recipe, data, versions, hours and every validation result; `data`: of the last stage."""
    return {
        "recipe": _without_paths(task.recipe),
        "recipe_digest": task.recipe.digest,
        "training": training(task),
        "notes": [*task.notes, *_image_notes(data)],
        "left_out": task.num_left_out,
        "validation_samples": task.num_validation,
        "versions": {name: _version(name) for name in ("featherpose", "torch", "numpy", "opencv-python-headless")},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "device": str(device)},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours": round(state.seconds / 3600, 2),
        "best": state.best,
        "history": state.history,
    }


def _image_notes(data: StageData | None) -> Iterator[str]:
    """What the images of the last stage have shown, one sentence each."""
    if data is not None:
        yield from data.notes
        if data.broken:
            first = data.broken[0].rstrip(".")
            yield f"{len(data.broken)} samples left out whose image cannot be used (first {first})."


def markdown(card: dict[str, Any]) -> str:
    """The run card (see `card`) -> Markdown, which shows curves.svg from the same folder."""
    recipe, best, training = card["recipe"], card["best"], card["training"]
    samples = ", ".join(f"{count} from {source}" for source, count in training["samples"].items())
    if card["left_out"]:
        samples += f"; {card['left_out']} records left out"
    names = [name for name in METRIC_NAMES if name in best]
    rows = [
        # A run that was begun with an earlier version may lack a score.
        [r["epoch"] + 1, Size(**r["input_size"]), *(format_score(n, r[n]) if n in r else "" for n in names)]
        for r in card["history"]
    ]
    scores = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
    heading = "Best validation result"
    if not recipe["validation"]["select_best"]:
        heading = "Validation result of the last weights, which no score selected"
    return f"""# {recipe["network"]}, recipe {card["recipe_digest"]}

{heading} ({card["validation_samples"]} samples): \
{", ".join(f"{METRIC_NAMES[name]} {format_score(name, best[name])}" for name in names)} \
after epoch {best["epoch"] + 1}, \
{card["hours"]} hours on {card["machine"]["device"]}.

![Validation scores by epoch](curves.svg)

| epoch | input | {" | ".join(METRIC_NAMES[name] for name in names)} |
|---|---|{"---|" * len(names)}
{scores}

## Data

Training samples: {samples}. Teacher: {training["teacher"] or "none"}.

{chr(10).join(f"- {note}" for note in card["notes"])}

{chr(10).join(f"- {term}" for term in training["terms"])}

## Recipe

```yaml
{yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, width=100)}```

{card["machine"]["system"]}, Python {card["machine"]["python"]}; \
{", ".join(f"{name} {number}" for name, number in card["versions"].items())}. Finished {card["finished"]}.
"""


def _version(package: str) -> str:
    """Version of an installed package; "unknown" where it has no package metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
