"""Every command: --help without heavy imports, help for each option, errors as one line with exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from featherpose.cli import COMMANDS, featherpose

README = (Path(__file__).parents[2] / "README.md").read_text()


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "featherpose", *words], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand:
    def test_help_imports_no_heavy_libraries(self, name: str) -> None:
        code = (
            "import sys\nfrom click.testing import CliRunner\nfrom featherpose.cli import featherpose\n"
            f"assert CliRunner().invoke(featherpose, ['{name}', '--help']).exit_code == 0\n"
            "print(*[name for name in ('torch', 'onnxruntime', 'cv2', 'pydantic') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout.split() == []

    def test_every_option_has_a_help_text(self, name: str) -> None:
        command = featherpose.get_command(click.Context(featherpose), name)
        assert command and command.help and f"featherpose {name}" in command.help
        for option in command.params:
            assert isinstance(option, click.Argument) or option.help, option.name

    def test_readme_shows_the_command(self, name: str) -> None:
        assert f"featherpose {name}" in README

    def test_unknown_option_is_a_usage_error(self, name: str) -> None:
        assert CliRunner().invoke(featherpose, [name, "--nosuch"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predikt"], "Did you mean 'predict'"),
        (["train", "pretrain-cbam_lite_hrnet"], "Did you mean 'pretrain-cbam_lite_hrnet_18'"),
        (["train"], "Name a RECIPE"),
        (["train", "--device", "gpu"], "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["evaluate", "--data", "x", "--format", "yolo"], "'yolo' is not one of 'coco', 'mpii'"),
        (["evaluate", "--data", "x", "--nms", "okss"], "'okss' is not one of 'oks', 'soft', 'pose', 'none'"),
        (["train", "pretrain-cbam_lite_hrnet_18", "--set", "networkk=1"], "Did you mean 'network'"),
        (["train", "--data", "nowhere.json"], "nowhere.json"),
        (["recipe", "show", "pretrain-cbam_lite_hrnet"], "Did you mean 'pretrain-cbam_lite_hrnet_18'"),
        (["recipe", "check", "custom-feather_pose", "--set", "network=lite_hrnet_19"], "lite_hrnet_18"),
        (["recipe", "list", "nosuch"], "No recipe has 'nosuch' in its name"),
        (["train", "nosuch.yaml"], "nosuch.yaml: cannot be read"),
        (["export", "nosuch.safetensors"], "nosuch.safetensors"),
        (["evaluate", "--data", "nowhere", "--model", "nosuch.onnx"], "nosuch.onnx: no such model file"),
        (["predict", "x.jpg", "--whole-image", "--model", "nosuch"], "nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_with_exit_code_2(words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
