"""A whole run on a bare machine without network, in slices, that is lost in between: it ends as one that was not."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import gpu_pack
import gpu_slice
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.tools.conftest import TOOLS
from tests.train.conftest import TINY, add, person

pytestmark = [pytest.mark.torch, pytest.mark.slow]
THERE = ("torch", "numpy", "opencv-python-headless", "pillow", "safetensors", "pyyaml", "click")
"""What the machine has; with torch comes what torch needs."""
WITH_TORCH = (
    "filelock",
    "typing_extensions",
    "setuptools",
    "sympy",
    "mpmath",
    "networkx",
    "jinja2",
    "markupsafe",
    "fsspec",
)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_wheel(name: str, folder: Path) -> None:
    """An installed library -> its wheel, as the package index would give it."""
    installed = distribution(name)
    about = installed.read_text("WHEEL") or ""
    tag = next(line.removeprefix("Tag: ") for line in about.splitlines() if line.startswith("Tag: "))
    target = folder / f"{name.replace('-', '_')}-{installed.version}-{tag}.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in installed.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has, by links, what the machine has, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in (*THERE, *WITH_TORCH):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files if file.parts[0] != ".."} - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FEATHERPOSE_DATA with two shards of drawn people."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (root / "data/drawn").mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / f"data/drawn/drawn-{shard}.tar", "w") as archive:
            for i in range(20):
                key = f"drawn-{shard}{i:02d}"
                picture, record = person(rng, key)
                add(archive, f"{key}.webp", picture)
                add(archive, f"{key}.json", record)
    return root


class Machine:
    """The GPU machine: keeps its folder from call to call until it is lost, sees only what a call carries."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder, self.calls = python, folder, 0

    def call(self, *carried: Path, words: tuple[str, ...] = ()) -> tuple[Path, str]:
        """Folders that are carried and words for the training -> the folder that comes back, and what was said."""
        self.calls += 1
        checkout = self.folder / f"checkout-{self.calls}"
        shutil.copytree(TOOLS, checkout / "tools")
        for part in carried:
            shutil.copytree(part, checkout / "build/gpu" / part.name)
        # no variable of this process but these: neither its libraries nor its data are to be found
        variables = {"OUT": "returned", "OMP_NUM_THREADS": "1", "PATH": os.defpath, "HOME": str(self.folder)}
        command = [self.python, "tools/gpu_slice.py", "--home", str(self.folder / "home")]
        words = ("--", "--device", "cpu", "--workers", "0", *words)
        done = subprocess.run([*command, *words], cwd=checkout, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return checkout / "returned", done.stdout

    def lose(self) -> None:
        shutil.rmtree(self.folder / "home")


def python(*words: Any, **variables: Any) -> str:
    """Words behind `python`, here, and variables -> what is said; one thread, as on the machine, for equal weights."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{key: str(value) for key, value in variables.items()}}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tool(name: str, *words: Any, **variables: Any) -> str:
    return python(TOOLS / f"{name}.py", *words, **variables)


def stood(returned: Path) -> tuple[int, bool]:
    """Where the run stands of which a call gave back this folder: step, and whether it is finished."""
    listed = json.loads((returned / gpu_slice.LIST).read_text())
    return listed["step"], listed["finished"]


def test_a_run_in_slices(bare: Path, data: Path, tmp_path: Path) -> None:
    lacking = (
        "from importlib.util import find_spec; print(*filter(find_spec, ('torch', 'pydantic', 'rich', 'featherpose')))"
    )
    assert subprocess.run([bare, "-c", lacking], capture_output=True, text=True).stdout.split() == ["torch"]

    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "data": {"labels": "human", "folder": "drawn"}}))
    (tmp_path / "wheels").mkdir()
    for name in gpu_pack.WHEELS:
        make_wheel(name, tmp_path / "wheels")
    how = ["--python", PYTHON, "--wheels", tmp_path / "wheels", "--mib", 2, "--to", tmp_path / "gpu"]
    tool("gpu_pack", tmp_path / "tiny.yaml", *how, FEATHERPOSE_DATA=data)
    parts = sorted((tmp_path / "gpu").iterdir())
    assert len(parts) > 2

    # Part after part is carried; the call with the last one trains, the next one goes on with nothing to carry.
    machine, one_step = Machine(bare, tmp_path), ("--max-minutes", "1e-9")
    for part in parts[:-1]:
        _, said = machine.call(part)
        assert f"{parts[-1].name}; carry them" in said
    returned, _ = machine.call(parts[-1], words=one_step)
    assert stood(returned) == (1, False)
    returned, said = machine.call(words=one_step)
    assert stood(returned) == (2, False)
    assert "Step 2, to be gone on with" in said

    # The machine is lost; what came back goes on on another one.
    machine.lose()
    run = tmp_path / "runs/tiny"
    assert "stands at step 2; go on with" in tool("gpu_back", returned, run)
    tool("gpu_pack", "--run", run, *how, FEATHERPOSE_DATA=data)
    returned, said = machine.call(*sorted((tmp_path / "gpu").iterdir()))
    assert "The run stands at step 2." in said
    assert stood(returned)[1]
    assert "finished" in tool("gpu_back", returned, run)

    # It has the weights and the card of a run that nothing interrupted.
    words = ["train", tmp_path / "tiny.yaml", "--out", tmp_path / "whole", "--device", "cpu", "--workers", "0"]
    python("-m", "featherpose", *words, FEATHERPOSE_DATA=data, FEATHERPOSE_CACHE=tmp_path / "cache")
    for name in ("last.safetensors", "best.safetensors"):
        whole, sliced = load_file(tmp_path / "whole" / name), load_file(run / name)
        assert whole.keys() == sliced.keys()
        assert all(torch.equal(tensor, sliced[key]) for key, tensor in whole.items()), name
    assert json.loads((run / "card.json").read_text())["best"]["step"] > 2
