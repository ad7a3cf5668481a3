"""Files for the servers that evaluate test sets whose annotations are withheld: COCO test-dev, MPII's test people."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherpose import files
from featherpose.data.mpii import Mpii
from featherpose.formats import mpii_mat

_COCO_KEYS = ("image_id", "category_id", "keypoints", "score")
_TEST_DEV = "test-dev2017"


def write_coco(folder: Path, model: str, results: Sequence[Mapping[str, Any]], split: str = _TEST_DEV) -> Path:
    """Folder, name of the model and COCO keypoint results -> path of the zip for COCO's server.

    As the server wants it, the zip has one file, person_keypoints_SPLIT_MODEL_results.json.
    """
    algorithm = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-")
    stem = f"person_keypoints_{split}_{algorithm}_results"
    content = json.dumps([{key: result[key] for key in _COCO_KEYS} for result in results])
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{stem}.json"), content, zipfile.ZIP_DEFLATED)
    path = folder / f"{stem}.zip"
    files.replace(path, data.getvalue())
    return path


def write_mpii(folder: Path, samples: Mpii, results: Sequence[Mapping[str, Any]]) -> Path:
    """Folder, the hidden test people and the results of `evaluate_mpii` -> path of the file for MPII's evaluation.

    pred_keypoints_mpii.mat where the people were read from MPII's own file, else pred.mat as HRNet writes it. A
    keypoint that was missed is at (0, 0).
    """
    keypoints = np.array([_points(result["keypoints"]) for result in results])
    if not samples.all_images:
        path = folder / "pred.mat"
        files.replace(path, mpii_mat.flat_submission(keypoints))
        return path
    found: defaultdict[str, dict[int, NDArray[np.float64]]] = defaultdict(dict)
    for name, rectangle, person in zip(samples.image_names, samples.rectangles, keypoints, strict=True):
        found[name][rectangle] = person
    path = folder / "pred_keypoints_mpii.mat"
    files.replace(path, mpii_mat.submission(samples.all_images, found))
    return path


def _points(keypoints: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    return np.array([(0.0, 0.0) if point is None else point for point in keypoints])
