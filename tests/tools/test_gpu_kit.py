"""Packing by size limits, taking in what came in any order, giving back what fits, putting it back in its place."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_back
import gpu_pack
import gpu_slice
import pytest
from gpu_slice import LIST, MIB, STATE

State = Callable[[int], bytes]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def noise(size: int, seed: int = 0) -> bytes:
    return bytes((i * 31 + seed) % 251 for i in range(size))


def packed(folder: Path, files: dict[str, bytes], most: int = 100, **facts: Any) -> list[Path]:
    """Files by their place -> folders of parts, as `gpu_pack` leaves them."""
    entries, sizes = gpu_pack.pack(files.items(), folder, most)
    facts = {"made": 1.0, "run": "runs/a", "recipe": "digest", "step": 0, "python": PYTHON, **facts}
    folders = [folder / f"part-{number + 1}" for number in range(len(sizes))]
    for part in folders:
        gpu_slice.put(part / LIST, json.dumps({**facts, "files": entries}).encode())
    return folders


def held(folder: Path) -> int:
    """Bytes in a part, its list left out."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != LIST)


class TestPack:
    @pytest.mark.parametrize(
        ("sizes", "parts"),
        [([], 0), ([0], 1), ([100], 1), ([101], 2), ([60, 60, 40], 2), ([250, 30], 4), ([10] * 25, 3)],
        ids=str,
    )
    def test_no_part_is_larger_than_it_may(self, sizes: list[int], parts: int, tmp_path: Path) -> None:
        folders = packed(tmp_path, {f"data/{i}": noise(size, i) for i, size in enumerate(sizes)})
        assert len(folders) == parts
        assert all(held(folder) <= 100 for folder in folders)
        assert sum(map(held, folders)) == sum(sizes)

    def test_what_was_cut_is_joined(self, tmp_path: Path) -> None:
        content = noise(1000)
        folders = packed(tmp_path / "parts", {"data/large": content, "small": b"x"}, 130)
        home = tmp_path / "home"
        assert sum(gpu_slice.take(folder, home) for folder in folders) == 9
        listed = gpu_slice.newest(folders, home)
        gpu_slice.unpack(listed, home)
        assert (home / "data/large").read_bytes() == content
        assert (home / "small").read_bytes() == b"x"

    def test_a_part_and_the_checkout_fit_in_one_call(self, tmp_path: Path) -> None:
        assert gpu_pack.room(tmp_path) == 60 * MIB  # no repository: nothing travels along
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
        (tmp_path / ".gitignore").write_text("ignored\n")
        (tmp_path / "ignored").write_bytes(bytes(30 * MIB))
        (tmp_path / "kept").write_bytes(bytes(20 * MIB))
        assert gpu_pack.room(tmp_path) == 42 * MIB - len("ignored\n")

    @pytest.mark.parametrize("name", ["/data/pose", "../shared/data/pose", "runs/../../x"])
    def test_a_place_that_no_other_machine_has(self, name: str) -> None:
        with pytest.raises(SystemExit, match="which another machine has not"):
            gpu_pack.inside(name)

    def test_a_folder_that_lacks_wheels(self, tmp_path: Path) -> None:
        (tmp_path / "rich-15.0.0-py3-none-any.whl").write_bytes(b"")
        with pytest.raises(SystemExit, match=r"no wheel of annotated-types, .*pydantic-core") as refusal:
            list(gpu_pack.wheels("3.12", tmp_path))
        assert "rich" not in str(refusal.value)

    @pytest.mark.parametrize("words", [[], ["a", "--run", "runs/a"], ["--run", "runs/a", "--set", "seed=1"]])
    def test_a_recipe_or_a_run(self, words: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, gpu_pack.__file__, *words], capture_output=True, text=True, cwd=Path(__file__).parent
        )
        assert done.returncode == 2
        assert "wanted either a recipe, or --run FOLDER without --set" in done.stderr


FILES = {"data/people/a.tar": noise(90, 1), "data/people/b.tar": noise(90, 2), "runs/a/recipe.yaml": b"seed: 0"}


class TestTakeIn:
    def test_nothing_came_ever(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="carry build/gpu/part-1"):
            gpu_slice.newest([], tmp_path)

    def test_late_twice_and_out_of_order(self, tmp_path: Path) -> None:
        first, second = packed(tmp_path / "parts", FILES)
        home = tmp_path / "home"
        assert gpu_slice.take(second, home) == 1
        listed = gpu_slice.newest([second], home)
        assert gpu_slice.missing(listed, home) == ["part-1"]
        assert gpu_slice.take(second, home) == 0
        assert gpu_slice.take(first, home) == 2
        assert gpu_slice.missing(gpu_slice.newest([], home), home) == []

    def test_damaged_on_the_way(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first, _ = packed(tmp_path / "parts", FILES)
        (first / "data/people/a.tar").write_bytes(b"other")
        assert gpu_slice.take(first, tmp_path / "home") == 1
        assert "a.tar was damaged on the way" in capsys.readouterr().out
        assert gpu_slice.missing(gpu_slice.newest([first], tmp_path / "home"), tmp_path / "home") == [
            "part-1",
            "part-2",
        ]

    def test_the_list_made_last_counts_and_old_shards_go(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        for made, name in ((1.0, "a"), (2.0, "b")):
            folders = packed(tmp_path / name, {f"data/people/{name}.tar": noise(9)}, made=made)
            gpu_slice.take(folders[0], home)
            gpu_slice.unpack(gpu_slice.newest(folders, home), home)
        assert [file.name for file in (home / "data/people").iterdir()] == ["b.tar"]
        older = gpu_slice.newest([tmp_path / "a/part-1"], home)
        assert older["made"] == 2.0

    @pytest.mark.parametrize(("here", "came", "stands"), [(0, 0, 0), (7, 5, 7), (5, 5, 5), (5, 7, 7)])
    def test_of_two_states_the_one_ahead_stays(
        self, here: int, came: int, stands: int, tmp_path: Path, state: State
    ) -> None:
        home = tmp_path / "home"
        if here:
            gpu_slice.put(home / "runs/a/recipe.yaml", b"seed: 0")
            gpu_slice.put(home / "runs/a" / STATE, state(here) + b"as left here")
        carried = {**({f"runs/a/{STATE}": state(came)} if came else {}), "runs/a/recipe.yaml": b"seed: 0"}
        (folder,) = packed(tmp_path / "parts", carried, 1000, step=came)
        gpu_slice.take(folder, home)
        gpu_slice.unpack(gpu_slice.newest([folder], home), home)
        found = gpu_slice.content_of(home / "runs/a" / STATE)
        assert gpu_slice.step_of(found) == stands
        assert found.endswith(b"as left here") == (here >= came and here > 0)

    def test_a_library_for_another_python(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match=rf"for Python 2\.7, this is {PYTHON}; pack again with --python {PYTHON}"):
            gpu_slice.install({"python": "2.7", "files": []}, tmp_path)

    def test_words_behind_the_dashes_are_for_the_training(self) -> None:
        args, words = gpu_slice.parse(["a", "b", "--minutes", "3", "--", "--device", "cuda"])
        assert (args.parts, args.minutes, words) == ([Path("a"), Path("b")], 3.0, ["--device", "cuda"])
        assert gpu_slice.parse([])[1] == []


class TestFollow:
    SLEEPER = "import signal, sys, time; signal.signal(signal.SIGTERM, {}); print(flush=True); time.sleep(30)"

    def start(self, handler: str) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen([sys.executable, "-c", self.SLEEPER.format(handler)], stdout=subprocess.PIPE)
        assert child.stdout and child.stdout.readline() == b"\n"
        child.stdout.close()
        return child

    def test_time_is_over(self, tmp_path: Path) -> None:
        child = self.start("lambda *_: sys.exit(0)")
        assert gpu_slice.follow(child, 0, lambda: None, tmp_path / STATE) == 0

    def test_one_that_does_not_listen_is_killed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu_slice, "GRACE_SECONDS", 0.2)
        child = self.start("signal.SIG_IGN")
        assert gpu_slice.follow(child, 0, lambda: None, tmp_path / STATE) == -9

    def test_every_saved_state_goes_back(self, tmp_path: Path) -> None:
        code = f"import pathlib, time; pathlib.Path({str(tmp_path / STATE)!r}).write_text('x'); time.sleep(1.2)"
        saved: list[int] = []
        child = subprocess.Popen([sys.executable, "-c", code])
        assert gpu_slice.follow(child, 30, lambda: saved.append(1), tmp_path / STATE) == 0
        assert saved == [1]


class TestGiveBack:
    def run(self, folder: Path, sizes: dict[str, int], content: bytes = b"") -> Path:
        for name, size in sizes.items():
            gpu_slice.put(folder / name, content + bytes(size))
        gpu_slice.put(folder / "recipe.yaml", b"seed: 0")
        return folder

    @pytest.mark.torch
    def test_few_files_each_small_enough(self, tmp_path: Path, state: State) -> None:
        run = self.run(tmp_path / "run", {"best.safetensors": 5 * MIB, "log.jsonl": 9, "tensorboard/events": 9})
        gpu_slice.put(run / STATE, state(40) + bytes(16 * MIB))
        gpu_slice.put(run / ".log.jsonl.1.part", b"half")
        gpu_slice.leave(run, tmp_path / "out", "digest")
        files = list((tmp_path / "out").iterdir())
        assert len(files) == 7
        assert all(file.stat().st_size < 16 * MIB for file in files)
        assert sum(file.stat().st_size for file in files) < 64 * MIB
        assert json.loads((tmp_path / "out" / LIST).read_text())["step"] == 40

        gpu_back.bring(tmp_path / "out", tmp_path / "back")
        for file in (f for f in run.rglob("*") if f.is_file()):
            there = tmp_path / "back" / file.relative_to(run)
            assert gpu_slice.content_of(there) == (b"" if file.suffix == ".part" else file.read_bytes()), file

    def test_the_indispensable_comes_first(
        self, tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = self.run(tmp_path / "run", {"best.safetensors": 20 * MIB, "log.jsonl": 9})
        gpu_slice.put(run / STATE, state(3) + bytes(50 * MIB))
        gpu_slice.leave(run, tmp_path / "out", "digest")
        listed = json.loads((tmp_path / "out" / LIST).read_text())
        assert [file["path"] for file in listed["files"]] == [STATE, "recipe.yaml", "log.jsonl"]
        assert "best.safetensors stays here, 20 MiB" in capsys.readouterr().out

    def test_a_state_that_is_too_large_takes_nothing_else_with_it(self, tmp_path: Path, state: State) -> None:
        run = self.run(tmp_path / "run", {"best.safetensors": 20 * MIB})
        gpu_slice.put(run / STATE, state(3) + bytes(63 * MIB))
        gpu_slice.leave(run, tmp_path / "out", "digest")
        listed = json.loads((tmp_path / "out" / LIST).read_text())
        assert [file["path"] for file in listed["files"]] == ["recipe.yaml", "best.safetensors"]
        assert listed["step"] == 0

    def test_before_the_first_state(self, tmp_path: Path) -> None:
        gpu_slice.leave(self.run(tmp_path / "run", {}), tmp_path / "out", "digest")
        assert json.loads((tmp_path / "out" / LIST).read_text())["step"] == 0


@pytest.mark.torch
class TestPutBack:
    @pytest.fixture
    def returned(self, tmp_path: Path, state: State) -> Path:
        """What a call gave back of a run of the plain recipe, at step 5."""
        from featherpose.train.recipe import Recipe, to_yaml

        run = tmp_path / "there"
        gpu_slice.put(run / "recipe.yaml", to_yaml(Recipe()).encode())
        gpu_slice.put(run / STATE, state(5))
        gpu_slice.leave(run, tmp_path / "returned", Recipe().digest)
        return tmp_path / "returned"

    def test_into_a_new_folder_and_over_an_older_state(self, returned: Path, tmp_path: Path, state: State) -> None:
        assert gpu_back.bring(returned, tmp_path / "run")["step"] == 5
        gpu_slice.put(tmp_path / "run" / STATE, state(4))
        gpu_back.bring(returned, tmp_path / "run")
        assert gpu_slice.step_of((tmp_path / "run" / STATE).read_bytes()) == 5

    def test_a_run_that_is_ahead(self, returned: Path, tmp_path: Path, state: State) -> None:
        gpu_back.bring(returned, tmp_path / "run")
        gpu_slice.put(tmp_path / "run" / STATE, state(6))
        with pytest.raises(SystemExit, match="stands at step 6, what came back at 5; --older"):
            gpu_back.bring(returned, tmp_path / "run")
        gpu_back.bring(returned, tmp_path / "run", older=True)
        assert gpu_slice.step_of((tmp_path / "run" / STATE).read_bytes()) == 5

    def test_a_run_of_another_recipe(self, returned: Path, tmp_path: Path) -> None:
        from featherpose.train.recipe import Recipe, to_yaml

        gpu_slice.put(tmp_path / "run/recipe.yaml", to_yaml(Recipe(seed=1)).encode())
        with pytest.raises(SystemExit, match="is a run of another recipe"):
            gpu_back.bring(returned, tmp_path / "run")

    def test_damaged_or_empty(self, returned: Path, tmp_path: Path) -> None:
        (returned / STATE).write_bytes(b"half")
        with pytest.raises(SystemExit, match=r"state\.safetensors: its pieces are missing or damaged"):
            gpu_back.bring(returned, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        shutil.rmtree(returned)
        with pytest.raises(SystemExit, match=r"has no list\.json"):
            gpu_back.bring(returned, tmp_path / "run")
