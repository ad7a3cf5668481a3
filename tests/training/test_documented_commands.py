"""Commands of the README and of docs/data.md as written, in an empty folder, with a made COCO in the data folder."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")

from click.testing import CliRunner

from featherpose import api
from featherpose.cli import featherpose
from featherpose.recipes.reading import override
from featherpose.recipes.recipe import Recipe
from featherpose.skeleton import COCO17
from tests.data.published import coco, coco_document, write_images, write_json
from tests.families import shorten

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TINY = (
    "stages=[{input_size: 64x64, epochs: 1, batch_size: 4, sigma: 1.5}]",
    "validation.interval=1",
    "schedule.warmup=0",
)


def commands(page: str, heading: str) -> list[str]:
    """File and the title of a section -> the lines of its code blocks that start with `featherpose`."""
    section = re.split(r"^#+ ", (ROOT / page).read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading + "\n")]
    return re.findall(r"^featherpose .*$", "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL)), re.MULTILINE)


PAGES = {
    "README": [*commands("README.md", "Train"), *commands("README.md", "Evaluate and export")],
    "docs/data.md": commands("docs/data.md", "Data sets"),
}
RUNS = {"README": {"mine", "custom"}, "docs/data.md": {"shards", "coco"}}
"""Page -> runs that its commands train."""


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: empty but for my.json and its images; a COCO of ten images is in the user's data folder."""
    coco(tmp_path / "home/.cache/featherpose/data/coco", num_images=10)
    folder = tmp_path / "work"
    names = [f"{number}.jpg" for number in range(10)]
    write_images(folder, names)
    write_json(folder / "my.json", coco_document(names, COCO17))
    (folder / "docs/data").mkdir(parents=True)
    (folder / "docs/data/coco-test.txt").write_text("000000001001\n000000001004\n")  # the true list has other images
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FEATHERPOSE_DATA", raising=False)
    monkeypatch.delenv("FEATHERPOSE_CACHE", raising=False)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_written(page: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    open_recipe = api.open_recipe

    def open_tiny(*arguments: Any, **options: Any) -> Recipe:
        return override(open_recipe(*arguments, **options), TINY)

    monkeypatch.setattr(api, "open_recipe", open_tiny)
    assert sum(command.startswith("featherpose train") for command in PAGES[page]) >= 2
    for command in PAGES[page]:
        done = CliRunner().invoke(featherpose, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
    assert {path.parent.name for path in empty_folder.glob("runs/*/best.safetensors")} == RUNS[page]
