"""Deliberate faults in a copy of the package, one at a time: which test catches each of them?

    python tools/sabotage.py            all faults
    python tools/sabotage.py crop ema   those with one of the words in their name

A suite that stays green when the flip test forgets its shift measures nothing. Run this after tests were removed or
made faster. For each row of `FAULTS` the old text is replaced by the new one in a copy of `src/`, and the row's tests
run against that copy, without the slow ones. The result is a Markdown table; the exit status is 1 if a fault was not
caught.

To add a fault: an old text that occurs exactly once in its file, and the tests that should fail, the quickest ones
first. The tests must pass without the fault, which is checked first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """A text of one file of the package, what replaces it, and the test files to run."""

    name: str
    file: str  # in src/featherpose
    old: str
    new: str
    tests: str  # in tests, separated by blanks

    def problem(self, package: Path) -> str | None:
        """Folder of the package -> why the fault cannot be applied, or None."""
        count = (package / self.file).read_text(encoding="utf-8").count(self.old)
        return None if count == 1 else f"{self.name}: {self.old!r} occurs {count} times in {self.file}, wanted 1."


FAULTS = (
    Fault(
        "flip test without the shift of one cell",
        "codecs/heatmap.py",
        "    if shift:\n",
        "    if shift and False:\n",
        "test_codecs.py",
    ),
    Fault(
        "crop moved by half a pixel",
        "crop.py",
        "        offset = (size - unit) / 2 -",
        "        offset = (size - 1) / 2 -",
        "test_crop.py",
    ),
    Fault(
        "UDP crop with size in place of size - 1",
        "crop.py",
        "((size - 1) / self.extent)",
        "(size / self.extent)",
        "test_crop.py",
    ),
    Fault(
        "OKS with sigma in place of 2 sigma",
        "oks.py",
        "(2 * np.asarray(sigmas, np.float64))",
        "(1 * np.asarray(sigmas, np.float64))",
        "test_oks.py",
    ),
    Fault(
        "COCO's left and right hip swapped",
        "skeleton.py",
        "right_wrist left_hip right_hip left_knee",
        "right_wrist right_hip left_hip left_knee",
        "test_skeleton.py",
    ),
    Fault(
        "loss of unlabeled keypoints",
        "training/losses.py",
        "errors = weights[..., None, None] * (heatmaps - targets) ** 2",
        "errors = (heatmaps - targets) ** 2",
        "training/test_losses.py",
    ),
    Fault(
        "milestone of the learning rate one epoch late",
        "recipes/schedule.py",
        "plan[min(m, len(plan)) - 1]",
        "plan[min(m + 1, len(plan)) - 1]",
        "recipes/test_schedule.py",
    ),
    Fault(
        "incomplete last batch kept",
        "recipes/schedule.py",
        "samples // stage.batch_size",
        "-(-samples // stage.batch_size)",
        "recipes/test_schedule.py training/test_loop.py",
    ),
    Fault(
        "first batch of each epoch dropped",
        "training/loader.py",
        "[max(0, step - epoch.first) :]",
        "[max(0, step - epoch.first) + 1 :]",
        "training/test_loop.py",
    ),
    Fault(
        "RGB and BGR swapped in the normalization",
        "networks/preprocess.py",
        "crops.permute(0, 3, 1, 2)",
        "crops.flip(3).permute(0, 3, 1, 2)",
        "networks/test_preprocess.py",
    ),
    Fault(
        "EMA decay inverted",
        "training/ema.py",
        "self._averages, self._weights, 1 - kept",
        "self._averages, self._weights, kept",
        "training/test_ema.py",
    ),
    Fault(
        "weight decay on norms and biases",
        "training/loop.py",
        '"weight_decay": 0.0',
        '"weight_decay": settings.weight_decay',
        "training/test_optimizer.py",
    ),
    Fault(
        "resume forgets the optimizer",
        "training/state.py",
        '            _restore_moments(self.optimizer, _with_prefix(tensors, "optimizer."))\n',
        "",
        "training/test_loop.py",
    ),
    Fault(
        "NMS keeps what it should suppress",
        "nms.py",
        "order[similarity(best, order) <= threshold]",
        "order[similarity(best, order) > threshold]",
        "test_oks.py",
    ),
    Fault(
        "IoU without the union",
        "boxes.py",
        "_ratio(overlap, _area(a)[:, None] + _area(b)[None] - overlap)",
        "_ratio(overlap, _area(a)[:, None] + _area(b)[None])",
        "test_boxes.py",
    ),
    Fault(
        "quarter offset to the wrong side",
        "codecs/heatmap.py",
        "return 0.25 * np.sign(",
        "return -0.25 * np.sign(",
        "test_codecs.py",
    ),
    Fault(
        "Newton step of DARK and UDP to the wrong side",
        "codecs/heatmap.py",
        "np.stack([xy * y - yy * x, xy * x - xx * y], axis=-1)",
        "np.stack([yy * x - xy * y, xx * y - xy * x], axis=-1)",
        "test_codecs.py",
    ),
    Fault(
        "heatmaps decoded at the corner of a cell",
        "codecs/heatmap.py",
        "(cells + self._offset(maps, cells)) * self.cell",
        "(cells + self._offset(maps, cells) - 0.5) * self.cell",
        "test_codecs.py",
    ),
    Fault(
        "points of the detector at the corner of a cell",
        "codecs/boxes.py",
        "(cells + 0.5) * stride - 0.5",
        "cells * stride - 0.5",
        "test_box_codec.py",
    ),
    Fault(
        "validation split with another modulus",
        "data/sample.py",
        "% _divisor(val_fraction) == 0",
        "% (_divisor(val_fraction) + 1) == 0",
        "data/test_sample.py",
    ),
    Fault(
        "validation samples also trained on",
        "training/tasks/pose_labels.py",
        "np.flatnonzero(~held_out & (weights > 0)",
        "np.flatnonzero((weights > 0)",
        "training/test_custom_data.py training/test_loop.py",
    ),
    Fault(
        "unsure limbs drawn solid",
        "draw.py",
        "(0.3, 0.7)",
        "(0.0, 1.0)",
        "test_draw.py",
    ),
    Fault(
        "OpenPose's eyes exchanged",
        "formats/openpose.py",
        '"right_eye", "left_eye"',
        '"left_eye", "right_eye"',
        "formats/test_outputs.py",
    ),
    Fault(
        "interrupted line kept in poses.jsonl",
        "formats/jsonl.py",
        'return head + b"\\n" if head else b""',
        "return data",
        "formats/test_jsonl.py",
    ),
    Fault(
        "person score without the box score",
        "poses.py",
        "(self.box_scores * mean)",
        "(mean)",
        "test_poses.py",
    ),
    Fault(
        "boxes enlarged by 1.2 at inference only",
        "runtime/estimator.py",
        "self.manifest.padding if padding is None",
        "1.2 if padding is None",
        "runtime/test_estimator.py",
    ),
    Fault(
        "labels of a mosaic not moved to their quadrant",
        "data/scene_augment.py",
        "inside.transformed([[1, 0, left], [0, 1, top]])",
        "inside.transformed([[1, 0, 0], [0, 1, 0]])",
        "data/test_scene_augment.py",
    ),
    Fault(
        "PCKh at 0.6 of the head size",
        "evaluation/pckh.py",
        "threshold: float = 0.5\n",
        "threshold: float = 0.6\n",
        "evaluation/test_pckh.py",
    ),
    Fault(
        "letterbox without the half pixel",
        "letterbox.py",
        "0.5 * factors - 0.5",
        "0 * factors",
        "test_letterbox.py",
    ),
)


def run_tests(package: Path, tests: str) -> tuple[bool, str]:
    """Folder that contains the package and test files -> whether all passed, and the first failure."""
    files = [str(ROOT / "tests" / name) for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode == 0:
        return True, ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return False, failed[1]
    sys.exit(f"pytest did not run {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def caught_by(fault: Fault, source: Path) -> str:
    """Fault and a copy of `src/` -> id of the first test that fails with it, or ""; the copy is as before afterward."""
    path = source / "featherpose" / fault.file
    intact = path.read_text(encoding="utf-8")
    path.write_text(intact.replace(fault.old, fault.new), encoding="utf-8")
    try:
        return run_tests(source, fault.tests)[1]
    finally:
        path.write_text(intact, encoding="utf-8")


def main() -> None:
    words = sys.argv[1:]
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    problems = [problem for fault in chosen if (problem := fault.problem(ROOT / "src/featherpose"))]
    if problems or not chosen:
        sys.exit("\n".join(problems) or f"No fault has {' or '.join(words)} in its name.")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        tests = " ".join(dict.fromkeys(" ".join(fault.tests for fault in chosen).split()))
        passed, failure = run_tests(source, tests)
        if not passed:
            sys.exit(f"{failure} fails without any fault.")
        print("| fault | caught by |\n|---|---|", flush=True)
        for fault in chosen:
            found = caught_by(fault, source)
            missed += not found
            print(f"| {fault.name} | {f'`{found}`' if found else 'NOT CAUGHT'} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
