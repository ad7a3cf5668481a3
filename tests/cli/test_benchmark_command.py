"""The command `benchmark`: table, JSON, output of the first process only, errors."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from featherpose import api
from featherpose.cli.benchmark import benchmark
from featherpose.errors import FeatherposeError, InputError
from featherpose.size import Size
from featherpose.training.benchmark import Speed, TrainingSpeed

pytestmark = pytest.mark.torch
SMALL = [
    "--input-size",
    "64x64",
    "--batch-size",
    "4",
    "--steps",
    "1",
    "--device",
    "cpu",
    "--workers",
    "0",
    "--option",
    "width=8",
]
MEASURED = TrainingSpeed(
    network="lite_hrnet_18",
    options={},
    input_size=Size(height=256, width=192),
    batch_size=64,
    processes=2,
    threads=1,
    workers=3,
    device="cpu",
    precision="float32",
    compiled=False,
    data="synthetic",
    step=Speed(80.04, 0.0, 25),
    loading=Speed(76.5, 0.042, 25),
    peak_memory=2_510_000_000,
    machine={"gpu": None, "cpu": "Quick CPU", "cores": 2, "torch": "2.6", "system": "Linux"},
)


def run(*words: str) -> Result:
    return CliRunner().invoke(benchmark, ["train", "lite_hrnet_18", *words])


@pytest.fixture
def api_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments passed to `api.benchmark_train`, which returns `MEASURED`."""
    how: dict[str, Any] = {}
    monkeypatch.setattr(api, "benchmark_train", lambda network, **words: how.update(words, network=network) or MEASURED)
    return how


def test_table_shows_both_throughputs_and_setup(api_arguments: dict[str, Any]) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    header, same, loading, how, where = result.stdout.splitlines()
    assert " ".join(header.split()) == "lite_hrnet_18 256x192, batch 64 samples/s waiting for data steps"
    assert same.split() == ["one", "fixed", "batch", "80.0", "0", "%", "25"]
    assert loading.split() == ["with", "DataLoader", "76.5", "4", "%", "25"]
    assert how == "processes: 2, threads per process: 1, workers per process: 3, peak memory: 2.51 GB; data: synthetic"
    assert where == "Quick CPU, 2 cores, torch 2.6, Linux"


def test_every_option_is_passed_to_the_api(api_arguments: dict[str, Any]) -> None:
    words = (
        "--input-size 128x96 --batch-size 8 --seconds 3 --steps 4 --device cpu --workers 1 --threads 2"
        " --option width=32"
    )
    run(*words.split(), "--data", "people", "--precision", "bf16", "--compile")
    assert api_arguments.pop("data").name == "people"
    assert api_arguments == {
        **{
            "network": "lite_hrnet_18",
            "input_size": Size(height=128, width=96),
            "batch_size": 8,
            "seconds": 3.0,
            "steps": 4,
            "device": "cpu",
        },
        **{"workers": 1, "threads": 2, "options": {"width": 32}, "precision": "bf16", "compiled": True},
    }


def test_only_the_first_process_prints(api_arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run().stdout == run("--json").stdout == ""
    monkeypatch.setenv("RANK", "0")
    assert json.loads(run("--json").stdout)["peak_memory"] == 2_510_000_000


def test_json_output_of_a_real_network() -> None:
    result = run(*SMALL, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["network"], found["input_size"], found["batch_size"]) == (
        "lite_hrnet_18",
        {"height": 64, "width": 64},
        4,
    )
    assert found["options"] == {"width": 8}
    assert found["step"]["samples_per_s"] > 0 and found["loading"]["steps"] == 1


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--input-size", "192"], InputError, "192 is not a size; wanted height x width"),
        (["--input-size", "192x256"], InputError, "did you mean 256x192"),
        (["--option", "width"], InputError, "wanted KEY=VALUE"),
    ],
)
def test_invalid_options_raise_named_errors(words: list[str], error: type[FeatherposeError], message: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


@pytest.mark.slow
def test_two_processes_split_the_batch() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "featherpose", "benchmark", "train", "lite_hrnet_18", *SMALL, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *words], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["processes"] == 2
