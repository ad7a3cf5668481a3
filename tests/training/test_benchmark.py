"""Training benchmark: timing, the step equals that of a run, the baseline implementation equals our network."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file

from featherpose.errors import DataError, InputError, ModelError
from featherpose.networks import create_network
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict
from featherpose.recipes.schedule import epochs
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training import benchmark, loop
from featherpose.training.benchmark import Speed, measure_steps, open_samples, synthetic_samples, training_speed
from featherpose.training.ranks import SINGLE_PROCESS, Ranks
from featherpose.training.tasks.pose import PoseTask
from tests.training.conftest import TINY, script

pytestmark = pytest.mark.torch
SMALL: dict[str, Any] = {
    "options": {"width": 0.1},
    "input_size": Size(height=64, width=64),
    "batch_size": 4,
    "device": "cpu",
    "workers": 0,
}


class FakeClock:
    """A fake clock: one second per batch, three per step, one hundred per warm-up step."""

    def __init__(self) -> None:
        self.now, self.taken, self.trained = 0.0, 0, 0

    def batches(self, count: int | None = None) -> Iterator[Any]:
        for self.taken in itertools.count(1) if count is None else range(1, count + 1):
            self.now += 1
            yield ()

    def step(self, batch: Any, stop: bool) -> bool:
        self.trained += 1
        self.now += 3 if self.trained > benchmark.WARMUP_STEPS else 100
        return stop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: made.now)
    return made


class TestMeasureSteps:
    def test_counts_steps_without_warmup(self, clock: FakeClock) -> None:
        assert measure_steps(clock.step, clock.batches(), 8, steps=5) == Speed(2.0, 0.25, 5)
        assert clock.trained == clock.taken == benchmark.WARMUP_STEPS + 5

    @pytest.mark.parametrize(("seconds", "steps"), [(0, 1), (9, 4), (40, 11)])
    def test_stops_after_step_in_which_time_ends(self, clock: FakeClock, seconds: float, steps: int) -> None:
        assert measure_steps(clock.step, clock.batches(), 8, seconds=seconds) == Speed(2.0, 0.25, steps)

    def test_another_process_can_stop_it(self, clock: FakeClock) -> None:
        def step(batch: Any, stop: bool) -> bool:
            return clock.step(batch, stop) or clock.trained == benchmark.WARMUP_STEPS + 2

        assert measure_steps(step, clock.batches(), 8, seconds=1e9).steps == 2

    def test_exhausted_batches_end_it(self, clock: FakeClock) -> None:
        assert measure_steps(clock.step, clock.batches(benchmark.WARMUP_STEPS + 4), 8, seconds=1e9).steps == 4


class TestTrainingSpeed:
    def test_step_and_loading_have_equal_step_counts(self) -> None:
        speed = training_speed("inverted_pose", steps=2, threads=1, **SMALL)
        assert (speed.step.steps, speed.loading.steps) == (2, 2)
        assert speed.step.samples_per_s > 0 and speed.loading.samples_per_s > 0
        assert 0 <= speed.step.waiting < speed.loading.waiting < 1
        assert (speed.processes, speed.threads, speed.workers, speed.device) == (1, 1, 0, "cpu")
        assert speed.peak_memory > 50e6
        assert speed.data == "synthetic"
        written = json.loads(json.dumps(speed.to_dict()))
        assert written["step"]["steps"] == 2 and written["machine"]["torch"] == torch.__version__

    def test_measures_a_folder_of_shards(self, synthetic_shards: Path) -> None:
        speed = training_speed("inverted_pose", seconds=0, data=synthetic_shards, **SMALL)
        assert speed.step.steps == speed.loading.steps == 1
        assert speed.data == str(synthetic_shards)

    def test_measures_with_one_worker(self) -> None:
        speed = training_speed("inverted_pose", steps=2, **{**SMALL, "workers": 1})
        assert speed.workers == 1
        assert speed.loading.steps == 2

    @pytest.mark.parametrize(
        ("network", "changes", "error", "message"),
        [
            ("lite_hrnet_19", {}, ModelError, "Did you mean 'lite_hrnet_18'"),
            ("inverted_pose", {"options": {"widht": 8}}, ModelError, "Did you mean 'width'"),
            ("inverted_pose", {"input_size": Size(height=64, width=60)}, ModelError, "multiples of 32"),
            ("inverted_pose", {"data": "nowhere"}, DataError, "There is no folder nowhere"),
        ],
    )
    def test_invalid_arguments_raise_with_hint(
        self, network: str, changes: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            training_speed(network, steps=1, **{**SMALL, **changes})

    def test_indivisible_batch_size_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmark, "init_ranks", lambda place: Ranks(0, 3))
        with pytest.raises(InputError, match=r"--batch-size 4 is not divisible by 3 processes"):
            training_speed("inverted_pose", steps=1, **SMALL)


def test_benchmark_step_equals_training_step(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batch gives the same weights."""
    changes = {
        "data": {"labels": "ground_truth", "folder": str(synthetic_shards)},
        "schedule": {"name": "constant", "warmup": 0},
    }
    recipe = from_dict({**TINY, **changes, "ema_decay": 0.0})
    assert not loop.train(recipe, tmp_path / "run", device="cpu", workers=0, quiet=True, max_minutes=1e-9).finished
    after = load_file(tmp_path / "run" / "state.safetensors")

    networks: list[Any] = []
    monkeypatch.setattr(
        benchmark, "create_network", lambda *a, **k: networks.append(create_network(*a, **k)) or networks[0]
    )
    assert isinstance(recipe, PoseRecipe)
    task = PoseTask(recipe, torch.device("cpu"))
    batch = next(task.prepare(recipe.stages[0]).batches(epochs(recipe, task.steps), step=0, workers=0))
    step = benchmark._step(recipe, COCO17.num_keypoints, torch.device("cpu"), SINGLE_PROCESS, compiled=False)
    before = {name: tensor.clone() for name, tensor in networks[0].state_dict().items()}
    assert step(batch, True) is True
    now = networks[0].state_dict()
    for name, tensor in now.items():
        assert torch.allclose(tensor, after[f"model.{name}"], atol=1e-6), name
    assert any(not torch.equal(tensor, now[name]) for name, tensor in before.items())


class TestSamples:
    def test_synthetic_samples_in_box_and_repeatable(self, tmp_path: Path) -> None:
        samples = synthetic_samples(tmp_path, 5)
        again = synthetic_samples(tmp_path, 5)
        assert len(samples) == 5
        for sample, same in zip(samples, again, strict=True):
            left, top, width, height = sample.box_xywh
            assert (sample.keypoints >= (left, top)).all()
            assert (sample.keypoints <= (left + width, top + height)).all()
            assert np.array_equal(sample.keypoints, same.keypoints)
        assert not np.array_equal(samples[0].keypoints, samples[1].keypoints)

    def test_synthetic_images_have_contrast(self, tmp_path: Path) -> None:
        samples = open_samples(None, Size(height=64, width=64), tmp_path)
        assert len(samples) == benchmark.SYNTHETIC_SAMPLES
        assert samples.crops[0].std() > 50

    def test_large_folder_is_subsampled_evenly(
        self, synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = open_samples(synthetic_shards, Size(height=64, width=64), tmp_path)
        assert len(whole) == 40
        monkeypatch.setattr(benchmark, "MAX_SAMPLES", 7)
        part = open_samples(synthetic_shards, Size(height=64, width=64), tmp_path)
        assert len(part) == 7
        assert np.array_equal(part.keypoints, whole.keypoints[::6])


class TestScripts:
    def test_baseline_equals_our_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Heatmaps, running statistics and gradients, in double precision."""
        torch.manual_seed(0)
        ours = create_network("lite_hrnet_18", 5).double()
        plain = script("plain_lite_hrnet", monkeypatch).LiteHRNet18(5).double()
        plain.load_state_dict(ours.state_dict())
        images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
        maps = [network(images) for network in (ours, plain)]
        assert torch.allclose(*maps, rtol=0, atol=1e-12)
        for found in maps:
            (found * torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)).sum().backward()
        for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=1e-6, atol=1e-9), name
        held = plain.state_dict()
        for name, tensor in ours.state_dict().items():
            assert torch.allclose(tensor, held[name], rtol=1e-9), name

    def test_baseline_measures_step_and_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmark, "WARMUP_STEPS", 0)
        script("plain_lite_hrnet", monkeypatch)
        speeds = script("train_baseline", monkeypatch).measure(Size(height=64, width=64), 2, 0.0, 0, None)
        assert {way: speed.steps for way, speed in speeds.items()} == {"step": 1, "loading": 1}
        assert all(speed.samples_per_s > 0 for speed in speeds.values())

    def test_ratio_is_computed_per_round(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = script("train_speed", monkeypatch)

        def side(speed: float) -> dict[str, Any]:
            return {way: {"samples_per_s": speed} for way in module.MEASUREMENTS}

        rounds = [{"baseline": side(a), "featherpose": side(b)} for a, b in ((10, 20), (20, 30), (5, 15))]
        found = module.summary(rounds, "step")
        assert found["ratios"] == [2.0, 1.5, 3.0]
        assert (found["ratio"], found["spread"]) == (2.0, [1.5, 3.0])
        assert (found["baseline"], found["featherpose"]) == (10, 20)
        assert "2.00   1.50 to 3.00" in module.table({"step": found})
