import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from featherpose import images, weights
from featherpose.cli.predict import predict
from featherpose.errors import InputError, ModelError
from tests.runtime.test_predict import image_file, people_file
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

pytest.importorskip("onnx")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in an empty folder with a model."""
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "tiny.onnx")

    def call(*words: str, device: str = "cpu", stdin: str | None = None):
        return CliRunner().invoke(predict, [*words, "--model", "tiny.onnx", "--device", device], input=stdin)

    return call


def test_whole_image_writes_drawing_and_json(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg", "--whole-image")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["image", "people", "scores"]
    assert result.stdout.splitlines()[1].split()[:2] == ["a.jpg", "1"]
    assert result.stdout.splitlines()[-1] == "1 person in 1 image: keypoints in out/poses.json, images in out"
    assert result.stderr == "1 of 1 files used.\n"
    assert (tmp_path / "out/a.jpg").exists() and (tmp_path / "out/poses.json").exists()


def test_device_auto_prints_the_chosen_device(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    assert run("a.jpg", "--whole-image", device="auto").stderr.startswith("Ran on cpu with ")


def test_refine_changes_keypoints_not_boxes(run, tmp_path):
    """The image is gray with three colored spots: the box of the keypoints is smaller than the image."""
    image = np.full((160, 120, 3), 128, np.uint8)
    for (x, y), color in zip(((40, 40), (70, 80), (50, 100)), np.eye(3, dtype=np.uint8) * 255, strict=True):
        image[y - 6 : y + 7, x - 6 : x + 7] = color
    images.write(tmp_path / "a.png", image)
    found = [
        json.loads(run("a.png", "--whole-image", "--no-draw", "--json", "-", *words).stdout)["images"][0]["instances"][
            0
        ]
        for words in ([], ["--refine"])
    ]
    assert found[0]["keypoints"] != found[1]["keypoints"]
    assert found[0]["box_xyxy"] == found[1]["box_xyxy"] == [0, 0, 120, 160]


def test_json_on_stdout_has_no_other_output(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg", "--whole-image", "--json", "-", "--no-draw")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out/poses.json").read_text())
    assert not (tmp_path / "out/a.jpg").exists()


def test_saved_formats_are_named_below_the_table(run, tmp_path):
    image_file(tmp_path / "a.jpg"), image_file(tmp_path / "b.jpg")
    result = run("a.jpg", "b.jpg", "--whole-image", "--no-draw", "--save", "csv", "--save", "coco")
    assert result.stdout.splitlines()[-2].endswith(": keypoints in out/poses.json")
    id_rule = "the image name, because the file names are not all different numbers"
    assert result.stdout.splitlines()[-1] == f"saved in out: poses.csv; coco_results.json (image_id: {id_rule})"
    assert len(json.loads((tmp_path / "out/coco_results.json").read_text())) == 2


@pytest.mark.parametrize("word", ["--draw-boxes", "--draw-ids"])
def test_boxes_and_ids_are_drawn_on_request(run, tmp_path, word):
    people_file(tmp_path / "a.png", 3)
    words = ["a.png", "--boxes", "boxes.json"]
    (tmp_path / "boxes.json").write_text('{"a.png": [[20, 20, 70, 50]]}')
    assert run(*words).exit_code == run(*words, word, "--out", "more").exit_code == 0
    assert not np.array_equal(images.read(tmp_path / "out/a.png"), images.read(tmp_path / "more/a.png"))


def test_json_option_sets_the_output_file(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    assert run("a.jpg", "--whole-image", "--json", "sub/keypoints.json", "--no-draw").exit_code == 0
    assert json.loads((tmp_path / "sub/keypoints.json").read_text())["images"][0]["image"] == "a.jpg"
    assert not (tmp_path / "out").exists()


def test_long_tables_are_cut_after_20_images(run, tmp_path):
    boxes = {}
    for i in range(25):
        image_file(tmp_path / f"in/{i:02}.jpg")
        boxes[f"{i:02}.jpg"] = [[0, 0, 50 + j, 70] for j in range(i % 8)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    result = run("in", "--boxes", "boxes.json", "--no-draw")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 23 and lines[21].startswith("... and 5 more")
    assert lines[1].split() == ["00.jpg", "0"] and lines[8].endswith("...")
    assert lines[22].startswith(f"{sum(i % 8 for i in range(25))} people in 25 images")


def test_exit_code_1_if_some_failed_2_if_all(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    (tmp_path / "bad.jpg").write_text("not an image")
    some = run("a.jpg", "bad.jpg", "none.jpg", "--whole-image")
    assert some.exit_code == 1
    assert some.stderr.splitlines()[0] == "2 of 3 images failed:"
    assert some.stderr.splitlines()[1].startswith("  bad.jpg: not an image")
    assert some.stderr.splitlines()[2].startswith("  none.jpg: no such file")
    none = run("bad.jpg", "--whole-image")
    assert none.exit_code == 2 and "1 of 1 images failed" in none.stderr and none.stdout == ""
    assert run("--whole-image").exit_code == 2


def test_model_of_another_kind_is_refused(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    tiny_image_model(tmp_path / "tiny.onnx", tiny_image_manifest("detector"))
    result = run("a.jpg", "--whole-image")
    assert isinstance(result.exception, ModelError)
    assert str(result.exception).startswith("tiny.onnx: tiny_detector is a model of kind detector, wanted one of kind")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        pytest.param([], ModelError, "This version ships no person detector; give --detector FILE", id="none shipped"),
        pytest.param(["--detector", "none"], InputError, "Nothing says where the people are", id="none wanted"),
        pytest.param(["--detector", "nosuch"], ModelError, "ships no person detector 'nosuch'", id="unknown name"),
        pytest.param(["--detector", "d.onnx"], ModelError, "d.onnx: no such model file", id="missing file"),
        pytest.param(["--detector", "tiny.onnx"], ModelError, "choose another --detector", id="a pose model"),
        pytest.param(["--whole-image", "--max-people", "2"], InputError, "contradict each other", id="two finders"),
    ],
)
def test_finder_that_cannot_be_used_is_one_line(run, tmp_path, monkeypatch, words, error, message):
    monkeypatch.setattr(weights, "DETECTORS", {"default": "none_shipped"})
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg", *words)
    assert isinstance(result.exception, error) and message in str(result.exception)
    assert "\n" not in str(result.exception) and not (tmp_path / "out").exists()


def test_detector_and_stages_with_verbose(run, tmp_path):
    for number in (0, 2):
        people_file(tmp_path / f"{number}.png", number)
    tiny_image_model(tmp_path / "d.onnx", tiny_image_manifest("detector"))
    result = run("*.png", "--detector", "d.onnx", "--verbose")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:3]] == [["0.png", "0"], ["2.png", "2"]]
    lines = result.stderr.splitlines()
    assert lines[:2] == ["model: tiny.onnx", "detector: d.onnx, boxes with a score of at least 0.3"]
    assert lines[2].startswith("device: cpu, ") and lines[3].startswith("time: ")
    assert all(f"{stage} 0." in lines[3] for stage in ("reading", "detection", "poses", "writing"))
    assert lines[3].endswith("images/s")


def test_second_run_says_what_was_done_before(run, tmp_path):
    image_file(tmp_path / "a.jpg"), image_file(tmp_path / "b.jpg")
    last = "2 people in 2 images{}: keypoints in out/poses.json, images in out"
    assert run("a.jpg", "b.jpg", "--whole-image").stdout.splitlines()[-1] == last.format("")
    assert run("a.jpg", "b.jpg", "--whole-image").stdout.splitlines()[-1] == last.format(" (2 done before)")
    assert run("a.jpg", "b.jpg", "--whole-image", "--no-resume").stdout.splitlines()[-1] == last.format("")


def test_quiet_prints_only_failures(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg", "--whole-image", "-q", device="auto")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    failed = run("a.jpg", "none.jpg", "--whole-image", "-q")
    assert failed.exit_code == 1 and failed.stdout == "" and failed.stderr.startswith("1 of 2 images failed:")


def test_paths_on_stdin_in_shards(run, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        image_file(tmp_path / name)
    for shard, count in (("1/2", 2), ("2/2", 1)):
        result = run("-", "--whole-image", "--no-draw", "--shard", shard, stdin="a.jpg\nb.jpg\nc.jpg\n")
        assert len(result.stdout.splitlines()) == count + 2
        assert result.stdout.splitlines()[-1].endswith(f"keypoints in out/poses-{shard[0]}-of-2.json")


def test_max_megapixels_limits_image_size(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    assert "0.0 megapixels, at most 0.004" in run("a.jpg", "--whole-image", "--max-megapixels", "0.004").stderr
    assert run("a.jpg", "--whole-image", "--max-megapixels", "0.005").exit_code == 0


def test_name_that_is_not_text_and_stdout_as_file(tmp_path):
    """In a process of its own: standard output is that of the process, and strict about what it can encode."""
    tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "in").mkdir()
    image_file(tmp_path / "a.jpg").rename(tmp_path / os.fsdecode(b"in/b\xff.jpg"))
    command = [sys.executable, "-m", "featherpose", "predict", "in", "--whole-image", "--model", "tiny.onnx"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for words in (["--no-draw"], ["--json", "/dev/stdout"]):
        done = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert b"b\\udcff.jpg" in done.stdout
    assert [entry["image"] for entry in json.loads(done.stdout)["images"]] == ["b\udcff.jpg"]


def test_help_shows_examples_and_box_formats():
    text = CliRunner().invoke(predict, ["--help"]).stdout
    for words in (
        "featherpose predict portrait.jpg --whole-image",
        '"empty.jpg": []',
        "COCO annotations",
        "exit code 1",
        "csv: A table, poses.csv",
    ):
        assert words in text, words


def test_errors_are_one_line_with_exit_code_2(tmp_path):
    image_file(tmp_path / "a.jpg")
    command = [sys.executable, "-m", "featherpose", "predict", "a.jpg", "--boxes", "none.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "featherpose: none.json: cannot be read (No such file or directory). Check the path after --boxes.\n"
    )


def test_help_imports_no_heavy_libraries():
    code = (
        "import sys, featherpose.cli.predict as p\n"
        "try: p.predict(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'onnxruntime', 'cv2', 'numpy', 'PIL', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert not {"torch", "onnxruntime", "cv2", "rich"} & set(eval(done.stderr))


def test_strict_and_category_reach_the_boxes(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    detections = [{"image_id": "a", "category_id": number, "bbox": [0.1, 0.2, 0.5, 0.6]} for number in (2, 3)]
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    options = ("a.jpg", "--boxes", "boxes.json", "--no-draw")
    assert "the detections are of the categories 2, 3. Choose one" in str(run(*options).exception)
    done = run(*options, "--category", "3")
    assert done.exit_code == 0
    assert "1 of 2 detections of boxes.json (category 3) used; left out: 1 of category 2 (first [0])." in done.stderr
    assert "Warning: 1 of 1 boxes are between 0 and 1" in done.stderr
    assert "boxes are between 0 and 1" in str(run(*options, "--category", "3", "--strict").exception)
