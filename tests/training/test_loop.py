"""Training loop: an interrupted and resumed run ends with the same weights as an uninterrupted one."""

import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch")
from safetensors.torch import load_file

from featherpose import files
from featherpose.charts import curves
from featherpose.errors import DataError, ModelError, RecipeError
from featherpose.networks.checkpoints import PretrainedReport, read_facts, save_weights
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict, load
from featherpose.recipes.recipe import to_dict, to_yaml
from featherpose.recipes.schedule import Epoch, epochs, full_batches
from featherpose.recipes.shipped import RECIPES
from featherpose.training import loop
from featherpose.training.card import markdown, training
from featherpose.training.display import Display
from featherpose.training.ranks import Ranks
from featherpose.training.tasks.pose import PoseTask
from tests.families import shorten
from tests.training.conftest import TINY
from tests.training.fork_server import Child, ForkServer, run_command

pytestmark = pytest.mark.torch


def recipe(folder: Path, **changes: Any) -> PoseRecipe:
    return from_dict({**TINY, **changes, "data": {"labels": "ground_truth", "folder": str(folder)}})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Generator[None, None, None]:
    """Results are bit-equal only for a fixed number of threads; one thread is available on every machine."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


def train(*args: Any, **options: Any) -> loop.Outcome:
    return loop.train(*args, device="cpu", workers=0, quiet=True, **options)


def train_slowly(recipe_file: str, run: str) -> None:
    """In a child that is killed: save after each step, and be slow enough that all kills happen before the end."""
    loop.SECONDS_BETWEEN_SAVES = 0
    update = loop.Ema.update
    loop.Ema.update = lambda *args: (update(*args), time.sleep(0.15))
    train(load(Path(recipe_file)), Path(run), resume=True)


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = load_file(a), load_file(b)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def uninterrupted_run(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(recipe(synthetic_shards), folder / "run").finished
    return folder / "run"


def test_run_writes_weights_card_and_log(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    card = json.loads((uninterrupted_run / "card.json").read_text())
    assert [r["epoch"] for r in card["history"]] == [0, 1]
    assert card["best"] in card["history"]
    assert card["training"]["terms"][0].startswith("COCO")
    facts = read_facts(uninterrupted_run / "best.safetensors")
    assert facts["network"] == TINY["network"]
    assert facts["options"] == TINY["options"]
    assert facts["results"] == card["best"]
    assert card["recipe"]["data"]["folder"] == facts["recipe"]["data"]["folder"] == synthetic_shards.name
    assert not any(str(synthetic_shards.parent) in text for text in (json.dumps(facts), json.dumps(card)))
    records = [json.loads(line) for line in (uninterrupted_run / "log.jsonl").read_text().splitlines()]
    assert [r["oks_accuracy"] for r in records] == [r["oks_accuracy"] for r in card["history"]]
    words = (uninterrupted_run / "card.md").read_text()
    assert "| epoch | input | OKS accuracy | OKS | PCK |" in words
    assert f"| 2 | 64x64 | {card['history'][1]['oks_accuracy']:.1f} |" in words
    assert "COCO (Lin et al. 2014)" in words
    assert (uninterrupted_run / "curves.svg").read_text().count("<polyline") == 3


def test_card_lists_pretrained_weights_and_terms(
    uninterrupted_run: Path, synthetic_shards: Path, tmp_path: Path
) -> None:
    def data(pretrained: Path) -> dict[str, Any]:
        return training(PoseTask(recipe(synthetic_shards, pretrained=str(pretrained)), torch.device("cpu")))

    save_weights(torch.nn.Linear(1, 1), tmp_path / "timm.safetensors", {"format": "pt"})
    theirs, ours = data(tmp_path / "timm.safetensors"), data(uninterrupted_run / "best.safetensors")
    assert theirs["pretrained"] == {"weights": "timm.safetensors"}
    assert "timm.safetensors: terms unknown" in theirs["terms"]
    assert ours["pretrained"]["recipe"]["network"] == TINY["network"]
    assert not any("unknown" in term for term in ours["terms"])


def test_validation_interval_skips_epochs(synthetic_shards: Path, tmp_path: Path) -> None:
    train(recipe(synthetic_shards, validation={"interval": 2}), tmp_path / "run")
    assert [r["epoch"] for r in json.loads((tmp_path / "run" / "card.json").read_text())["history"]] == [1]


def test_without_selection_the_last_weights_count(synthetic_shards: Path, tmp_path: Path) -> None:
    chosen = recipe(synthetic_shards, validation={"select_best": False}, optimizer={"lr": 1e-9})
    outcome = train(chosen, tmp_path / "run")
    assert outcome.weights == tmp_path / "run" / "last.safetensors"
    assert outcome.best["epoch"] == 1
    assert outcome.best == read_facts(outcome.weights)["results"]
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert "Validation result of the last weights, which no score selected" in (tmp_path / "run/card.md").read_text()


def test_card_without_oks_reports_only_pck(uninterrupted_run: Path) -> None:
    card = json.loads((uninterrupted_run / "card.json").read_text())
    history = [{key: value for key, value in r.items() if key not in ("oks_accuracy", "oks")} for r in card["history"]]
    words = markdown({**card, "history": history, "best": history[0]})
    assert "| epoch | input | PCK |" in words
    assert f"samples): PCK {history[0]['pck']:.1f} after epoch 1" in words
    assert curves(history).count("<polyline") == 1


def test_resume_after_sigkill_is_bit_equal(synthetic_shards: Path, tmp_path: Path, fork_server: ForkServer) -> None:
    long = recipe(synthetic_shards, stages=[{**TINY["stages"][0], "epochs": 5}])
    assert train(long, tmp_path / "whole").finished
    run, draws = tmp_path / "killed", np.random.default_rng(5)
    arguments = [str(tmp_path / "whole" / "recipe.yaml"), str(run)]
    for _ in range(3):
        child = fork_server.start(train_slowly, *arguments, log=tmp_path / "log")
        _wait_for_progress(run, child)
        time.sleep(draws.uniform(0, 0.3))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.log.read_text()
    last = fork_server.start(train_slowly, *arguments, log=tmp_path / "log")
    assert last.wait() == 0, last.log.read_text()
    assert_same_weights(run / "last.safetensors", tmp_path / "whole" / "last.safetensors")
    assert_same_weights(run / "best.safetensors", tmp_path / "whole" / "best.safetensors")
    assert (run / "log.jsonl").read_text().count('"oks_accuracy"') == 5


def _wait_for_progress(run: Path, child: Child) -> None:
    """Wait until the child has saved a new state."""
    state = run / "state.safetensors"
    before = state.stat().st_mtime_ns if state.exists() else 0
    while child.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
        time.sleep(0.02)


def test_resume_after_max_minutes_is_bit_equal(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    run = uninterrupted_run.parent / "clock"
    assert not train(recipe(synthetic_shards), run, max_minutes=1e-9).finished
    assert train(recipe(synthetic_shards), run, resume=True).finished
    assert_same_weights(run / "last.safetensors", uninterrupted_run / "last.safetensors")


def test_worker_count_does_not_change_weights(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    run = uninterrupted_run.parent / "workers"
    loop.train(recipe(synthetic_shards), run, device="cpu", workers=2, quiet=True)
    assert_same_weights(run / "last.safetensors", uninterrupted_run / "last.safetensors")


def test_stopped_run_leaves_no_worker_processes(synthetic_shards: Path, tmp_path: Path) -> None:
    assert not loop.train(
        recipe(synthetic_shards), tmp_path / "run", device="cpu", workers=2, quiet=True, max_minutes=1e-9
    ).finished
    assert multiprocessing.active_children() == []


def test_another_seed_changes_weights(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    run = uninterrupted_run.parent / "seed"
    train(recipe(synthetic_shards, seed=1), run)
    one, other = (load_file(folder / "last.safetensors") for folder in (run, uninterrupted_run))
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_fifty_steps_beat_zero_heatmaps(synthetic_shards: Path, tmp_path: Path) -> None:
    stages = [{"input_size": "64x64", "epochs": 13, "batch_size": 8, "sigma": 1.5}]
    train(recipe(synthetic_shards, stages=stages, optimizer={"lr": 0.005}), tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (loss,) = [record["loss"] for record in records if "loss" in record]
    empty = math.pi * 1.5**2 / 16**2  # mean of a squared Gaussian over the heatmap
    assert loss < 0.9 * empty


def test_existing_run_is_not_overwritten(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    with pytest.raises(RecipeError, match="already contains a run; add --resume"):
        train(recipe(synthetic_shards), uninterrupted_run)


def test_resume_with_another_recipe_raises(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    with pytest.raises(RecipeError, match="differs from the given recipe"):
        train(recipe(synthetic_shards, seed=7), uninterrupted_run, resume=True)


def test_resume_from_damaged_state_raises(uninterrupted_run: Path, synthetic_shards: Path) -> None:
    run = uninterrupted_run.parent / "damaged"
    train(recipe(synthetic_shards), run, max_minutes=1e-9)
    (run / "state.safetensors").write_bytes((run / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"state\.safetensors: cannot resume from it"):
        train(recipe(synthetic_shards), run, resume=True)


def test_folder_of_a_running_process_is_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    chosen = recipe(synthetic_shards)
    assert not train(chosen, run, max_minutes=1e-9).finished
    before = (run / "state.safetensors").read_bytes()
    refused = pytest.raises(RecipeError, match=r"Another process is training in .*; wait for it")
    with files.locked(run / ".lock"), refused:
        train(chosen, run, resume=True)
    assert (run / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folder": "nowhere"}, "There is no folder nowhere"),
        ({"sources": ["cocoo"]}, r"no samples to train on: data\.sources is cocoo, the samples are 40 of coco"),
        ({"labels": "ground_truth+pseudo"}, "no teacher-labels.npz"),
    ],
)
def test_missing_data_raises_with_hint(
    data: dict[str, Any], message: str, synthetic_shards: Path, tmp_path: Path
) -> None:
    values = {**TINY, "data": {"labels": "ground_truth", "folder": str(synthetic_shards), **data}}
    with pytest.raises(DataError, match=message):
        train(from_dict(values), tmp_path / "run")


def _slow_unless_narrow(name: str) -> Any:
    """Recipe name, marked slow if its network has no narrow variant."""
    return name if "lite_hrnet" in name or "rep_pose" in name else pytest.param(name, marks=pytest.mark.slow)


# Of recipes that differ only in schedule and length, one: the first of each network, codec, loss and optimizer. The
# rows of the paper's tables are trained in tests/contracts/test_rows.py.
DIFFERENT = {
    (recipe.network, str(recipe.options), recipe.codec, recipe.loss, recipe.optimizer.name): name
    for name, recipe in reversed(RECIPES.items())
    if isinstance(recipe, PoseRecipe) and not name.startswith("paper-")
}


@pytest.mark.parametrize("name", [_slow_unless_narrow(name) for name in DIFFERENT.values()])
def test_different_recipes_train_for_one_step(
    name: str, synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep networks are shortened."""
    shorten(monkeypatch)
    values = to_dict(RECIPES[name])
    small = {"data": {"labels": "ground_truth", "folder": str(synthetic_shards)}, "pretrained": "", "frozen_stages": 0}
    if "lite_hrnet" in name:
        small["options"] = {"width": 8}
    if "rep_pose" in name:
        small["options"] = {"width": 0.5}
    stages = [{**stage, "input_size": "64x64", "batch_size": 2, "epochs": 1} for stage in values["stages"]]
    assert not train(from_dict({**values, **small, "stages": stages}), tmp_path / "run", max_minutes=1e-9).finished
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_two_processes_train_and_resume(synthetic_shards: Path, tmp_path: Path, fork_server: ForkServer) -> None:
    """Two ranks divide every batch between them, resume from a state, and write the run card."""
    chosen = recipe(synthetic_shards)
    (tmp_path / "r.yaml").write_text(to_yaml(chosen))
    words = ["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--workers", "0", "--device", "cpu"]
    for extra in (["--max-minutes", "1e-9"], ["--resume"]):
        for child in fork_server.start_ranks(run_command, *words, *extra, folder=tmp_path):
            assert child.wait() == 0, child.log.read_text()
    assert json.loads((tmp_path / "run" / "card.json").read_text())["history"][-1]["epoch"] == 1


def test_resume_with_changed_labels_is_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    """One image fewer than at the start; the same data in another place are no change."""
    whole = recipe(synthetic_shards)
    run = tmp_path / "run"
    assert not train(whole, run, max_minutes=1e-6).finished
    data = tmp_path / "data"
    shutil.copytree(synthetic_shards, data)
    (run / "recipe.yaml").write_text(to_yaml(recipe(data)))
    assert train(recipe(data), run, resume=True).finished

    with tarfile.open(data / "drawn.tar") as archive:
        kept = [member for member in archive.getmembers() if not member.name.startswith("drawn-003")]
        contents = [(member, archive.extractfile(member).read()) for member in kept]
    with tarfile.open(data / "drawn.tar", "w") as archive:
        for member, content in contents:
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"training samples \d+ then, \d+ now, labels .*--accept-changed-data"):
        train(recipe(data), run, resume=True)
    assert train(recipe(data), run, resume=True, accept_changed_data=True).finished


def test_wrong_input_size_is_found_before_data_are_read(tmp_path: Path) -> None:
    wrong = recipe(tmp_path / "missing", stages=[{**TINY["stages"][0], "input_size": "65x48"}])
    with pytest.raises(ModelError, match=r"65x48 .* multiples of 32"):
        train(wrong, tmp_path / "run")


def test_ranks_partition_every_epoch(synthetic_shards: Path) -> None:
    one_recipe = recipe(synthetic_shards)
    task = PoseTask(one_recipe, torch.device("cpu"))
    stage_data = task.prepare(one_recipe.stages[0])

    def seen(epoch: Epoch, ranks: Ranks) -> list[bytes]:
        found = stage_data.batches([epoch], epoch.first, workers=0, ranks=ranks)
        return [crop.numpy().tobytes() for crops, *_ in found for crop in crops]

    plan = epochs(one_recipe, task.steps)
    assert len(plan) == 2
    for epoch in plan:
        all_crops = seen(epoch, Ranks(0, 2)) + seen(epoch, Ranks(1, 2))
        assert sorted(all_crops) == sorted(seen(epoch, Ranks()))
        assert len(set(all_crops)) == len(all_crops) == epoch.steps * 8


def test_ctrl_c_stops_and_prints_resume_command(
    synthetic_shards: Path, tmp_path: Path, fork_server: ForkServer
) -> None:
    long = recipe(synthetic_shards, stages=[{**TINY["stages"][0], "epochs": 500}])
    (tmp_path / "r.yaml").write_text(to_yaml(long))
    run = tmp_path / "run"
    words = ["train", str(tmp_path / "r.yaml"), "--out", str(run), "--device", "cpu", "--workers", "0"]
    child = fork_server.start(run_command, *words, log=tmp_path / "output")
    while child.poll() is None and not (run / "log.jsonl").exists():
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == 0
    output = child.log.read_text()
    assert f"resume with:\nfeatherpose train --resume --out {run}" in output
    assert "Traceback" not in output
    assert (run / "state.safetensors").exists()


def test_data_wait_suggests_more_workers() -> None:
    display = Display(epochs(recipe(Path("samples")), full_batches(40)), quiet=True)
    display.console = Console(file=io.StringIO(), width=200)
    for waited, words in ((0.0, "data wait 0 %  "), (0.5, "data wait 50 % (more --workers may help)")):
        display._steps.clear()
        display.step(display.plan[0], display.plan[0].last - 1, 0.1, 2e-3, 1.0, waited)
        assert words in display.console.file.getvalue()  # type: ignore[attr-defined]


def test_pretrained_report_groups_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    fresh = ["head.final.weight", "head.final.bias"]
    report = PretrainedReport(loaded=["backbone.a.weight"], fresh=fresh, ignored=["fc.weight"])
    Display(epochs(recipe(Path("samples")), full_batches(40))).pretrained_loaded(Path("a.pth"), report)
    stderr = " ".join(capsys.readouterr().err.split())
    assert (
        stderr == "Pretrained weights a.pth: 1 tensors loaded; randomly initialized: head.final (2); ignored: fc (1)."
    )
