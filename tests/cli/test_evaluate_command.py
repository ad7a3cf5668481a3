"""The command `evaluate`: table, JSON, results file, exit codes, and no torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import featherpose
from featherpose import images
from featherpose.cli.diagnosis import write_reliability
from featherpose.cli.evaluate import evaluate
from featherpose.cli.tables import percent
from featherpose.errors import DataError, FeatherposeError, InputError, ModelError
from featherpose.evaluation.calibration import calibration
from featherpose.evaluation.evaluate import NMS
from featherpose.formats.coco import to_results
from featherpose.skeleton import LSP14, MPII16
from tests.evaluation.folders import SAMPLES, UNLABELED, person, write_folder
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_manifest, tiny_model

pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in a folder with a tiny model and a data set."""
    monkeypatch.chdir(tmp_path)
    model = str(tiny_model(tmp_path / "tiny.onnx"))
    tiny_image_model(tmp_path / "detector.onnx", tiny_image_manifest("detector"))
    write_folder(tmp_path / "people")

    def call(*words: str) -> Result:
        return CliRunner().invoke(evaluate, ["--model", model, "--data", "people", "--device", "cpu", *words])

    return call


def test_table_shows_coco_scores_and_settings(run, tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    names, values, how, where = result.stdout.splitlines()
    assert names.split() == ["AP", "AP50", "AP75", "AP(M)", "AP(L)", "AR", "AR50"]
    assert len(values.split()) == 7
    assert how == f"tiny 64x48 ({tmp_path / 'tiny.onnx'}), boxes gt, no flip test, blur kernel 0"
    assert where.startswith("instances: 3, images: 2 of people, in ")
    assert where.endswith("results in out/evaluate/tiny-people.results.json")
    assert len(json.loads((tmp_path / "out/evaluate/tiny-people.results.json").read_text())) == 3


def test_intervals_stand_below_the_scores(run) -> None:
    lines = run("--intervals").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["score", "95 % from", "95 % to"]
    facts = json.loads(run("--intervals", "--json").stdout)
    low, high = facts["intervals"]["ap"]
    assert low <= facts["scores"]["ap"] <= high
    assert "intervals" not in json.loads(run("--json").stdout)


def test_diagnosis_is_printed_and_whole_in_json(run) -> None:
    result = run("--diagnosis")
    assert result.exit_code == 0, result.output
    assert "of 51 labeled keypoints are predicted on their place (within OKS 0.5)" in result.stdout
    assert "AP gained if corrected" in result.stdout
    facts = json.loads(run("--diagnosis", "--json").stdout)["diagnosis"]
    assert np.sum(facts["confusion"]["counts"], axis=1).tolist() == [3] * 17
    assert "diagnosis" not in json.loads(run("--json").stdout)


def test_chart_shows_a_point_for_each_bin_of_scores(tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    write_reliability(calibration([0.25, 0.95, 0.95], [1, 1, 0]), chart)
    assert chart.read_text().count('fill="#edae49"') == 2


def test_ap50_is_one_only_if_keypoints_match(run, tmp_path: Path) -> None:
    """The tiny model detects red, green and blue: all labeled keypoints of this person lie on the red spot."""
    folder = tmp_path / "people"
    image = np.full((240, 320, 3), 255, np.uint8)
    image[100:108, 150:158] = (255, 0, 0)
    images.write(folder / "images/photo-5.png", image)
    keypoints = np.zeros((17, 3))
    keypoints[0::3] = (153.5, 103.5, 2)
    truth = json.loads((folder / "person_keypoints.json").read_text())
    for spot, found in (((153.5, 103.5), 1), ((180, 60), 0)):
        keypoints[0::3, :2] = spot
        lone = person(1, 5, (120, 40, 90, 120), keypoints=keypoints.ravel().tolist())
        (folder / "person_keypoints.json").write_text(json.dumps({**truth, "annotations": [lone]}))
        assert json.loads(run("--json").stdout)["scores"]["ap50"] == found


def test_detector_is_evaluated_on_boxes(run, tmp_path: Path) -> None:
    """The stand-in finds red cells of 32 input pixels; an image of 240x320 has 10/3 pixels per input pixel."""
    folder = tmp_path / "people"
    image = np.zeros((240, 320, 3), np.uint8)
    image[107:214, 107:214] = (255, 0, 0)
    images.write(folder / "images/photo-5.png", image)
    truth = json.loads((folder / "person_keypoints.json").read_text())
    people = [person(1, 5, (107, 107, 105, 105)), person(2, 7, (10, 10, 60, 120))]
    (folder / "person_keypoints.json").write_text(json.dumps({**truth, "annotations": people}))
    lines = run("--model", "detector.onnx").stdout.splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP(S)", "AP(M)", "AP(L)", "AR", "recall"]
    assert lines[1].split()[1] == "50.5"  # one of two people, at the recalls 0 to 0.5
    assert lines[1].split()[-1] == "50.0"
    assert lines[2] == "tiny_detector, long side 96 px (detector.onnx)"
    assert lines[3] == "0.00 false boxes per image without anyone"
    facts = json.loads(run("--model", "detector.onnx", "--json").stdout)
    assert (facts["long_side"], facts["num_instances"]) == (96, 1)
    (result,) = json.loads((tmp_path / "out/evaluate/detector-people.results.json").read_text())
    assert result["bbox"] == pytest.approx([107, 107, 105, 105], abs=4)


def test_boxes_of_a_detector_beside_gt_boxes(run, tmp_path: Path) -> None:
    """The results are those of `estimate` with the same threshold."""
    folder = tmp_path / "people"
    image = np.zeros((240, 320, 3), np.uint8)
    image[107:214, 107:214] = (255, 0, 0)
    images.write(folder / "images/photo-5.png", image)
    words = ["--boxes", "detector", "--detector", "detector.onnx"]
    lines = run(*words).stdout.splitlines()
    assert lines[0].split()[:2] == ["boxes", "AP"]
    assert [line.split()[0] for line in lines[1:4]] == ["gt", "detector", "difference"]
    assert lines[4].startswith("tiny 64x48 ") and "boxes of detector.onnx with a score of at least 0.01," in lines[4]
    assert lines[5].startswith("instances: 1, images: 4 of people")
    facts = json.loads(run(*words, "--conf", "0.02", "--json", "--out", "found.json").stdout)
    assert (facts["boxes"], facts["detector"], facts["conf"]) == ("detector", "detector.onnx", 0.02)
    for name, reference in facts["gt_scores"].items():
        assert facts["difference"][name] == pytest.approx(facts["scores"][name] - reference)
    poses = featherpose.estimate(image, model="tiny.onnx", detector="detector.onnx", conf=0.02, device="cpu")
    assert json.loads(Path("found.json").read_text()) == to_results(poses, 5)


def test_json_on_stdout_has_no_other_output(run, tmp_path: Path) -> None:
    result = run("--json", "--out", "mine/results.json", "--flip-test", "--blur-kernel", "3")
    facts = json.loads(result.stdout)
    assert {
        key: facts[key] for key in ("model", "network", "input_size", "data", "boxes", "flip_test", "blur_kernel")
    } == {
        **{
            "model": str(tmp_path / "tiny.onnx"),
            "network": "tiny",
            "input_size": {"height": 64, "width": 48},
            "data": "people",
        },
        **{"boxes": "gt", "flip_test": True, "blur_kernel": 3},
    }
    assert facts["results"] == "mine/results.json"
    assert Path("mine/results.json").is_file()
    assert 0 <= facts["scores"]["ap"] <= 1
    assert (facts["num_images"], facts["num_instances"], facts["broken"]) == (2, 3, [])


def test_nobody_labeled_is_an_error_with_counts(run, tmp_path: Path) -> None:
    write_folder(tmp_path / "unlabeled", annotations=[person(1, 5, (0, 0, 30, 30), **UNLABELED)])
    error = run("--data", "unlabeled").exception
    assert isinstance(error, DataError)
    assert str(error).startswith("0 of 1 annotations of unlabeled used; left out: 1 without a labeled keypoint (first")


def test_strict_and_category_reach_the_labels(run, tmp_path: Path) -> None:
    path = tmp_path / "people/person_keypoints.json"
    truth = json.loads(path.read_text())
    for annotation in truth["annotations"]:
        annotation["bbox"] = [value / 1000 for value in annotation["bbox"]]
    path.write_text(json.dumps(truth))
    assert "Warning: 3 of 3 boxes are between 0 and 1: parts of the image" in run().stderr
    assert isinstance(run("--strict").exception, InputError)
    error = run("--category", "horse").exception
    assert isinstance(error, DataError)
    assert "0 categories are called horse; the file lists person, id 1" in str(error)


def test_counts_end_every_run(run) -> None:
    assert run().stderr.splitlines()[0] == (
        "3 of 6 annotations of people used; left out: 1 crowd regions (first annotations[3]), 2 without a labeled"
        " keypoint (first annotations[4])."
    )
    (counts,) = json.loads(run("--json").stdout)["counts"]
    assert (counts["used"], counts["total"]) == (3, 6)


def test_broken_image_is_listed_with_exit_code_1(run, tmp_path: Path) -> None:
    (tmp_path / "people/images/photo-7.png").write_bytes(b"")
    result = run()
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("instances: 2, images: 1 of")
    note, line = [line for line in result.stderr.splitlines() if "image" in line]
    assert note == "Warning: 1 of 2 images could not be used; their persons count as missed."
    assert "photo-7.png: the file is empty" in line


def test_boxes_file_replaces_gt_boxes(run, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 5, "bbox": SAMPLES[0]["bbox"], "score": 0.5}]))
    result = run("--boxes", "boxes.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("instances: 1, images: 1 of")


def test_jitter_and_refine_change_the_results(run) -> None:
    """Every option takes effect: the results differ, and the line below the table and the JSON name the options."""
    words = {"plain": [], "off": ["--jitter", "0.2"], "both": ["--jitter", "0.2", "--refine"]}
    poses = {}
    for name, options in words.items():
        result = run(*options, "--out", f"{name}.json")
        assert result.exit_code == 0, result.output
        poses[name] = (Path(f"{name}.json").read_text(), result.stdout.splitlines()[2])
    assert poses["plain"][0] != poses["off"][0]
    assert [line.partition("blur kernel 0")[2] for _, line in poses.values()] == [
        "",
        ", jitter 0.2",
        ", jitter 0.2, refined",
    ]
    facts = json.loads(run("--json", "--jitter", "0.1", "--refine").stdout)
    assert (facts["jitter"], facts["refine"], facts["nms"]) == (0.1, True, "none")


def test_refine_changes_the_keypoints(run, tmp_path: Path) -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    for (x, y), color in zip(((160, 60), (190, 120), (170, 170)), np.eye(3, dtype=np.uint8) * 255, strict=True):
        image[y - 6 : y + 7, x - 6 : x + 7] = color
    images.write(tmp_path / "people/images/photo-5.png", image)
    results = []
    for words in ([], ["--refine"]):
        assert run(*words, "--out", "poses.json").exit_code == 0
        results.append(json.loads(Path("poses.json").read_text()))
    assert results[0][1]["keypoints"] != results[1][1]["keypoints"]


@pytest.mark.parametrize(("nms", "kept"), [("oks", 1), ("soft", 2), ("pose", 1), ("none", 2)])
def test_nms_method_decides_kept_duplicates(run, tmp_path: Path, nms: str, kept: int) -> None:
    image = np.full((240, 320, 3), 255, np.uint8)
    for (x, y), color in zip(((30, 50), (45, 80), (35, 100)), np.eye(3, dtype=np.uint8) * 255, strict=True):
        image[y - 6 : y + 7, x - 6 : x + 7] = color
    images.write(tmp_path / "people/images/photo-5.png", image)
    twice = [{"image_id": 5, "bbox": SAMPLES[0]["bbox"], "score": score} for score in (0.5, 0.4)]
    (tmp_path / "boxes.json").write_text(json.dumps(twice))
    result = run("--boxes", "boxes.json", "--nms", nms, "--out", "kept.json")
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "kept.json").read_text())) == kept
    assert f"boxes boxes.json, nms {nms}, no flip test" in result.stdout
    assert json.loads(run("--boxes", "boxes.json", "--nms", nms, "--json").stdout)["nms"] == nms


def test_mpii_format_prints_pckh(run, tmp_path: Path) -> None:
    """All keypoints of this person lie on the red spot, which every third keypoint of the tiny model detects."""
    image = np.full((240, 320, 3), 255, np.uint8)
    image[100:108, 150:158] = (255, 0, 0)
    images.write(tmp_path / "people/images/photo-5.png", image)
    facts = {"joints": [[153.5, 103.5]] * 16, "joints_vis": [1] * 16, "headsize": 20.0}
    record = {"image": "photo-5.png", "center": [153.5, 100.0], "scale": 0.8, **facts}
    (tmp_path / "people/people.json").write_text(json.dumps([record]))
    result = run("--format", "mpii", "--padding", "1")
    assert result.exit_code == 0, result.output
    names, values, how, _ = result.stdout.splitlines()
    assert names.split() == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean", "Mean@0.1", "Limbs"]
    found = [int(k % 3 == 0) for k in range(5, 17)]  # COCO keypoints of arms and legs, left before right
    assert values.split() == [
        "-",
        *(f"{50 * sum(pair):.1f}" for pair in zip(found[::2], found[1::2], strict=True)),
        "-",
        "-",
        f"{100 * sum(found) / 12:.1f}",
    ]
    assert how.endswith("boxes gt, no flip test, blur kernel 0, padding 1.0")
    (person,) = json.loads((tmp_path / "out/evaluate/tiny-people.results.json").read_text())
    assert person["image"] == "photo-5.png"
    scores = json.loads(run("--format", "mpii", "--padding", "1", "--json").stdout)["scores"]
    assert scores["mean"] is None
    assert scores["limbs"] == pytest.approx(sum(found) / 12)


def test_mpii_labels_that_look_wrong_are_said(run, tmp_path: Path) -> None:
    facts = {"joints": [[k / 20, k / 30] for k in range(1, 17)], "joints_vis": [1] * 16, "headsize": 20.0}
    record = {"image": "photo-5.png", "center": [153.5, 100.0], "scale": 0.8, **facts}
    (tmp_path / "people/people.json").write_text(json.dumps([record] * 3))
    assert "Warning: 3 of 3 persons have all keypoints between 0 and 1" in run("--format", "mpii").stderr
    assert "3 of 3 persons have all keypoints between 0 and 1" in str(run("--format", "mpii", "--strict").exception)


def test_nms_choices_are_those_of_the_evaluation() -> None:
    (option,) = (option for option in evaluate.params if option.name == "nms")
    assert list(option.type.choices) == list(NMS)


BAD = {
    "data": (["--data", "nowhere"], DataError, "There is no folder nowhere"),
    "model": (["--model", "nowhere.onnx"], ModelError, "nowhere.onnx: no such model file"),
    "kind of the model": (
        ["--model", "detector.onnx", "--flip-test", "--nms", "oks"],
        InputError,
        "is a person detector, evaluated without nms, flip_test; leave it out",
    ),
    "detector with boxes of a file": (
        ["--boxes", "x.json", "--detector", "detector.onnx"],
        InputError,
        "type --boxes de",
    ),
    "conf of labeled boxes": (["--conf", "0.1"], InputError, "detector and conf are for detected boxes"),
    "nms of a detector": (
        ["--boxes", "detector", "--nms", "soft"],
        InputError,
        "nms and jitter are for boxes that are",
    ),
    "no detector": (["--boxes", "detector", "--detector", "tiny.onnx"], ModelError, "choose another --detector"),
    "boxes": (["--boxes", "nowhere.json"], InputError, "nowhere.json: cannot be read (No such file"),
    "jitter of mpii": (
        ["--format", "mpii", "--jitter", "0.1"],
        InputError,
        "mpii is evaluated in the boxes of its labels: leave out",
    ),
    "no people.json of mpii": (["--format", "mpii"], DataError, "people: not a data set of the form mpii; docs/data"),
    "padding": (["--padding", "0"], InputError, "padding is 0.0, wanted a factor above 0"),
    "jitter": (["--jitter", "0.3"], InputError, "jitter is 0.3, wanted 0 (none) to below 0.25"),
    "jitter of a file": (["--jitter", "0.1", "--boxes", "tiny.onnx"], InputError, "jitter 0.1 is for labeled boxes"),
    "nms of labeled boxes": (["--nms", "pose"], InputError, "nms pose is for detected boxes"),
    "blur_kernel": (["--blur-kernel", "4"], InputError, "blur_kernel is 4, wanted 0"),
    "out is a folder": (["--out", "people"], InputError, "people: is a folder, wanted a file"),
    "out below a file": (["--out", "tiny.onnx/x.json"], InputError, "tiny.onnx is not a writable folder"),
}


@pytest.mark.parametrize(("words", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_input_fails_before_writing_any_file(
    run, tmp_path: Path, words: list[str], kind: type[FeatherposeError], message: str
) -> None:
    result = run(*words)
    assert type(result.exception) is kind
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_labels_without_keypoint_names_fail(run, tmp_path: Path) -> None:
    path = tmp_path / "people/person_keypoints.json"
    truth = json.loads(path.read_text())
    path.write_text(json.dumps({**truth, "categories": [{"id": 1, "name": "person"}]}))
    assert "person_keypoints.json: no category lists keypoint names" in str(run().exception)


def test_model_with_other_skeleton_fails(run, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=MPII16))
    assert "predicts the 16 keypoints of mpii16, the data set labels the 17 of coco17" in str(run().exception)


def test_lsp_model_is_evaluated_on_lsp_data(run, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=LSP14))
    lone = person(1, 5, (10, 20, 60, 100))
    lone["keypoints"] = lone["keypoints"][: 3 * 14]
    write_folder(tmp_path / "lsp", annotations=[lone], skeleton=LSP14)
    result = run("--data", "lsp")
    assert result.exit_code == 0, result.output


PROGRAM = """
import sys
from featherpose.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def test_no_torch_import_and_errors_are_one_line(run, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "evaluate", "--model", "tiny.onnx", "--device", "cpu", "--data"]
    good = subprocess.run([*command, "people"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr.splitlines()[-1]) == (0, "False"), good.stderr
    bad = subprocess.run([*command, "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert [line.startswith("featherpose: There is no folder") for line in bad.stderr.splitlines()] == [True, False]


@pytest.mark.parametrize(("fraction", "text"), [(None, "-"), (0.0, "0.0"), (0.66449, "66.4"), (1.0, "100.0")])
def test_percent_has_one_decimal(fraction: float | None, text: str) -> None:
    assert percent(fraction) == text
