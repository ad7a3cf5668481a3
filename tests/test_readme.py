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


def write_clip(path):
    """Five frames of one person."""
    import cv2

    portrait = cv2.resize(cv2.imread(str(ROOT / "src/featherpose/examples/collins.jpg")), (192, 256))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (192, 256))
    for _ in range(5):
        writer.write(portrait)
    writer.release()


@pytest.mark.parametrize(
    ("page", "clip"), [("README.md", "clip.mp4"), ("docs/video.md", "squats.mov")], ids=["README", "video page"]
)
def test_video_commands_run(page, clip, tmp_path):
    """The command, then the program that has the same clip."""
    write_clip(tmp_path / clip)
    text = (ROOT / page).read_text()
    (command,) = re.findall(rf"^featherpose (predict {clip} .*)$", text, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "featherpose", *command.split()], check=True, cwd=tmp_path)
    stem = clip.partition(".")[0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{stem}.{end}" for end in ("mp4", "jsonl", "csv")}
    programs = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if clip in block]
    for program in programs:
        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=tmp_path)
        header, *rows = (tmp_path / "knees.csv").read_text().splitlines()
        assert header == "timestamp,id,left_knee,right_knee"
        assert [row.rsplit(",", 2)[0] for row in rows] == ["0.0,1", "0.1,1", "0.2,1", "0.3,1", "0.4,1"]
    assert len(programs) == (page == "docs/video.md")


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
