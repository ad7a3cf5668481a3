"""A full disk and an unreadable shard: a clear error message, and no saved state is lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file

from featherpose.errors import DataError
from featherpose.recipes.reading import from_dict
from featherpose.recipes.recipe import to_yaml
from featherpose.training import loop
from tests.training.conftest import TINY

pytestmark = pytest.mark.torch

# In a separate namespace: a file system of 16 MiB, a run on it, a file that fills it, and the resumed run.
CHILD = """
import sys
from pathlib import Path
from featherpose.errors import InputError
from featherpose.training import loop
from featherpose.recipes.reading import load

recipe, disk, kept = load(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
how = {"device": "cpu", "workers": 0, "quiet": True}
assert not loop.train(recipe, disk / "run", max_minutes=1e-9, **how).finished
before = (disk / "run" / "state.safetensors").read_bytes()
filler = disk / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 12))
    except OSError:
        pass
try:
    loop.train(recipe, disk / "run", resume=True, **how)
except InputError as error:
    print(error)
assert (disk / "run" / "state.safetensors").read_bytes() == before
filler.unlink()
assert loop.train(recipe, disk / "run", resume=True, **how).finished
kept.write_bytes((disk / "run" / "last.safetensors").read_bytes())
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="mounting a small file system needs Linux's unshare")
def test_full_disk_keeps_the_last_state(synthetic_shards: Path, tmp_path: Path) -> None:
    recipe = from_dict({**TINY, "data": {"labels": "ground_truth", "folder": str(synthetic_shards)}})
    loop.train(recipe, tmp_path / "whole", device="cpu", workers=0, quiet=True)
    (tmp_path / "disk").mkdir()
    mount = f'mount -t tmpfs -o size=16m tmpfs {tmp_path}/disk && exec "$0" "$@"'
    command = [sys.executable, "-c", CHILD, str(tmp_path / "r.yaml"), str(tmp_path / "disk"), str(tmp_path / "last")]
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "could not be written (No space left on device)" in done.stdout
    assert "Files written before are intact; free disk space and try again." in done.stdout
    ended, wanted = load_file(tmp_path / "last"), load_file(tmp_path / "whole" / "last.safetensors")
    assert all(torch.equal(ended[name], wanted[name]) for name in wanted)


def test_unreadable_shard_raises_and_keeps_state(synthetic_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(synthetic_shards, folder)
    recipe = from_dict({**TINY, "data": {"labels": "ground_truth", "folder": str(folder)}})
    loop.train(recipe, tmp_path / "run", max_minutes=1e-9, device="cpu", workers=0, quiet=True)
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    shard = folder / "drawn.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"drawn\.tar"):
        loop.train(recipe, tmp_path / "run", resume=True, device="cpu", workers=0, quiet=True)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
