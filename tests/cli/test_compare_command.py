"""The command `compare`: the paper's columns, the paired difference, published rows, results files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from featherpose import zoo
from featherpose.cli.compare import compare
from featherpose.errors import DataError, FeatherposeError, InputError, ModelError
from featherpose.evaluation.compare import published_rows
from tests.evaluation.folders import SAMPLES, write_folder
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in a folder with a tiny model, a data set, and results that are right and wrong."""
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "tiny.onnx")
    tiny_image_model(tmp_path / "detector.onnx", tiny_image_manifest("detector"))
    write_folder(tmp_path / "people")
    for name, shift in (("right", 0), ("wrong", 90)):
        results = [
            {
                **{"image_id": sample["image_id"], "category_id": 1, "score": 0.9},
                "keypoints": [value + shift for value in sample["keypoints"]],
            }
            for sample in SAMPLES[:3]
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(results))

    def call(*words: str) -> Result:
        return CliRunner().invoke(compare, [*words, "--data", "people", "--device", "cpu"])

    return call


def test_columns_are_those_of_the_paper_in_its_order(run) -> None:
    result = run("tiny.onnx", "right.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [name.strip() for name in lines[0].split("  ") if name.strip()] == [
        *("Method", "Backbone", "Pretrain", "Input size", "#Params", "GFLOPs"),
        *("AP", "AP50", "AP75", "AP(M)", "AP(L)", "AR"),
    ]
    assert lines[1].split()[:6] == ["tiny.onnx", "tiny", "no", "64x48", "-", "-"]
    assert lines[2].split()[:6] == ["right.json", "-", "-", "-", "-", "-"]
    assert lines[2].split()[6] == "100.0"
    assert [line.split("  ")[0] for line in lines[3:]] == ["difference", "95 % from", "95 % to"]


@pytest.mark.torch
def test_network_with_options_is_counted(run) -> None:
    """The table of networks has the plain one alone."""
    (model, _) = json.loads(run("small", "right.json", "--json").stdout)["models"]
    assert (model["parameters"], model["gflops"]) == (1_981_713, pytest.approx(0.0999, abs=1e-4))


def test_difference_is_second_minus_first(run) -> None:
    """Right results against wrong ones: the same on all images, so the interval is a point."""
    facts = json.loads(run("wrong.json", "right.json", "--json").stdout)
    assert [model["method"] for model in facts["models"]] == ["wrong.json", "right.json"]
    assert facts["differences"]["ap"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    same = json.loads(run("right.json", "right.json", "--json").stdout)
    assert same["differences"]["ar"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_published_rows_are_marked(run) -> None:
    result = run("right.json", "wrong.json", "--published")
    rows = [line for line in result.stdout.splitlines() if line.startswith("* ")]
    assert len(rows) == len(published_rows("AP")) + 1  # and the line that says what the mark means
    assert any(row.split()[-6] == "67.0" and "cbam_lite_hrnet_18" in row for row in rows)
    assert "*" not in run("right.json", "wrong.json").stdout


@pytest.mark.parametrize("metric", ["AP", "PCKh@0.5"])
def test_published_rows_are_all_scores_of_the_metric(metric: str) -> None:
    scores = [score.percent for entry in zoo.read() for score in entry.published if score.metric == metric]
    assert [round(100 * value, 1) for row in published_rows(metric) for value in row.scores.values()] == scores


def test_mpii_has_the_columns_of_its_table(run, tmp_path: Path) -> None:
    facts = {"joints": [[153.5, 103.5]] * 16, "joints_vis": [1] * 16, "headsize": 20.0}
    record = {"image": "photo-5.png", "center": [153.5, 100.0], "scale": 0.8, **facts}
    (tmp_path / "people/people.json").write_text(json.dumps([record]))
    result = run("tiny.onnx", "tiny.onnx", "--format", "mpii")
    assert result.exit_code == 0, result.output
    of_results = run("right.json", "tiny.onnx", "--format", "mpii")
    assert "right.json: files of results are compared by AP only, not on mpii" in str(of_results.exception)
    names = result.stdout.splitlines()[0].split()
    assert names[-9:] == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean", "Limbs"]


BAD = {
    "detected boxes": (["tiny.onnx", "tiny.onnx", "--boxes", "detector"], InputError, "compared in the same boxes"),
    "detector": (["detector.onnx", "tiny.onnx"], ModelError, "is a model of kind detector, wanted one of kind pose"),
    "unknown model": (["tiny.onnx", "smal"], ModelError, "Did you mean 'small'"),
    "another data set": (["right.json", "tiny.onnx", "--format", "mpii"], DataError, "not a data set of the form mpii"),
    "missing results": (["nowhere.json", "tiny.onnx"], InputError, "nowhere.json: cannot be read"),
}


@pytest.mark.parametrize(("words", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(run, words: list[str], kind: type[FeatherposeError], message: str) -> None:
    result = run(*words)
    assert type(result.exception) is kind
    assert message in str(result.exception)
