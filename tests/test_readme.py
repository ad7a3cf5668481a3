import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CONSOLE = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.DOTALL)


def test_readme_contains_python_blocks():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_python_blocks_run(block, tmp_path):
    subprocess.run([sys.executable, "-W", "error", "-c", block], check=True, cwd=tmp_path)


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command.split()[1] for command, _ in CONSOLE])
def test_readme_shows_the_output_of_commands(command, output, tmp_path):
    words = [str(ROOT / word) if word.startswith("src/") else word for word in command.split()]
    done = subprocess.run([sys.executable, "-m", *words], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == output


def test_tour_runs_and_prints_what_it_says(tmp_path):
    """Its blocks are one program; a comment at or below a print has the printed line."""
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/tour.md").read_text(), re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    printed = re.findall(r"^print\(.*\)\s*# (.*)$", code, re.MULTILINE)
    assert done.stdout.splitlines() == printed


def test_output_formats_page_shows_what_is_printed(tmp_path):
    """The command is run, then its Python blocks, which are one program; comments have the printed lines."""
    page = (ROOT / "docs/outputs.md").read_text()
    ((command, output),) = re.findall(r"```console\n\$ (.*?)\n(.*?)```", page, re.DOTALL)
    test_readme_shows_the_output_of_commands(command, output, tmp_path)
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    said = re.findall(r"^# (.*)$|^print\(.*\)\s*# (.*)$", code, re.MULTILINE)
    assert done.stdout.splitlines() == [own_line or same_line for own_line, same_line in said]
