"""The study of attention: its runs leave the scores of each person, and its table compares rows of equal seeds."""

from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

from tests.training.conftest import script

pytestmark = pytest.mark.torch


@pytest.fixture
def study(synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with synthetic samples in place of its data set."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pose-train").symlink_to(synthetic_shards)
    monkeypatch.setenv("FEATHERPOSE_DATA", str(tmp_path))
    return script("study", monkeypatch)


def test_steps_name_rows_of_the_study(study: ModuleType) -> None:
    rows = {run.row for step in study.STEPS.values() for run in step.runs}
    assert rows == study.ROWS.keys()


def test_trained_rows_are_compared(study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [study.Run(row, epochs=1) for row in ("lite_hrnet_18", "iterative-cbam", "iterative-se")]
    for run in runs[:2]:
        study.train(run, tmp_path / "runs")
    capsys.readouterr()
    study.print_table(study.StepOfStudy(runs), tmp_path / "runs")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    reference, attention, missing = rows
    assert reference[2] == attention[2] == "1" and missing[2] == "0"
    assert reference[6] == "" and " to " in attention[6] and missing[3] == ""
