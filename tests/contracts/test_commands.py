"""Every command: --help without heavy imports, help for each option, errors as one line with exit code 2."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from featherpose.cli import COMMANDS, featherpose, main

README = (Path(__file__).parents[2] / "README.md").read_text()


HELP_OF_ALL = """
import sys
from click.testing import CliRunner
from featherpose.cli import COMMANDS, featherpose
for name in COMMANDS:
    assert CliRunner().invoke(featherpose, [name, "--help"]).exit_code == 0, name
    print(name, *(heavy for heavy in ("torch", "onnxruntime", "cv2", "pydantic") if heavy in sys.modules))
"""


def test_help_imports_no_heavy_libraries() -> None:
    """In one interpreter: the first command that imports one is at fault."""
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand:
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
        (
            ["evaluate", "--data", "x", "--format", "voc"],
            "'voc' is not one of 'auto', 'mpii', 'lsp', 'crowdpose', 'yolo'",
        ),
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
def test_errors_are_one_line_with_exit_code_2(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["featherpose", *words])
    with pytest.raises(SystemExit, match="2"):  # any other exception would be a traceback
        main()
    assert message in capsys.readouterr().err


def test_module_runs_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "featherpose", "predikt"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean 'predict'" in done.stderr
    assert "Traceback" not in done.stderr
