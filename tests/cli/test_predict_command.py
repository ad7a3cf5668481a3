import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from featherpose import images
from featherpose.cli.predict import predict
from featherpose.errors import InputError, ModelError
from tests.runtime.test_predict import image_file
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

pytest.importorskip("onnx")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in an empty folder with a model."""
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "tiny.onnx")

    def call(*words: str, device: str = "cpu"):
        return CliRunner().invoke(predict, [*words, "--model", "tiny.onnx", "--device", device])

    return call


def test_whole_image_writes_drawing_and_json(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg", "--whole-image")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["image", "people", "scores"]
    assert result.stdout.splitlines()[1].split()[:2] == ["a.jpg", "1"]
    assert result.stdout.splitlines()[-1] == "1 person in 1 image: keypoints in out/poses.json, images in out"
    assert result.stderr == ""
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


def test_json_option_sets_the_output_file(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    assert run("a.jpg", "--whole-image", "--json", "sub/keypoints.json", "--no-draw").exit_code == 0
    assert json.loads((tmp_path / "sub/keypoints.json").read_text())["images"][0]["image"] == "a.jpg"
    assert not (tmp_path / "out").exists()


def test_long_tables_are_cut_after_20_images(run, tmp_path):
    boxes = {}
    for i in range(25):
        image_file(tmp_path / f"in/{i:02}.jpg")
        boxes[f"{i:02}.jpg"] = [[0, 0, 50, 70]] * (i % 8)
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
    assert none.exit_code == 2 and "1 of 1 images failed" in none.stderr
    assert run("--whole-image").exit_code == 2


def test_model_of_another_kind_is_refused(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    tiny_image_model(tmp_path / "tiny.onnx", tiny_image_manifest("detector"))
    result = run("a.jpg", "--whole-image")
    assert isinstance(result.exception, ModelError)
    assert str(result.exception).startswith("tiny.onnx: tiny_detector is a model of kind detector, wanted one of kind")
    assert not (tmp_path / "out").exists()


def test_missing_boxes_raise_input_error(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    result = run("a.jpg")
    assert isinstance(result.exception, InputError) and "no person detector" in str(result.exception)


def test_max_megapixels_limits_image_size(run, tmp_path):
    image_file(tmp_path / "a.jpg")
    assert "0.0 megapixels, at most 0.004" in run("a.jpg", "--whole-image", "--max-megapixels", "0.004").stderr
    assert run("a.jpg", "--whole-image", "--max-megapixels", "0.005").exit_code == 0


def test_help_shows_examples_and_box_formats():
    text = CliRunner().invoke(predict, ["--help"]).stdout
    for words in (
        "featherpose predict portrait.jpg --whole-image",
        '"empty.jpg": []',
        "COCO annotations",
        "exit code 1",
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
