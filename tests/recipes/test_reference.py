"""Every field of a recipe is explained: in `recipe show` and in docs/recipes.md."""

from pathlib import Path

import pytest

from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import load
from featherpose.recipes.reference import field_docs, sections, to_commented_yaml, to_markdown
from featherpose.recipes.shipped import RECIPES

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.mark.parametrize("name", ["finetune-cbam_lite_hrnet_18", "paper-cbam_lite_hrnet_18-256x192-coco"])
def test_commented_yaml_loads_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(to_commented_yaml(RECIPES[name]))
    assert load(tmp_path / "r.yaml") == RECIPES[name]


def test_every_field_follows_its_comment() -> None:
    lines = [line.strip() for line in to_commented_yaml(PoseRecipe()).splitlines() if line.strip() != "-"]
    fields = [index for index, line in enumerate(lines) if not line.startswith("#")]
    assert all(lines[index - 1].startswith("# ") for index in fields)


def test_every_field_has_a_docstring() -> None:
    for section in (PoseRecipe(), *sections(PoseRecipe()).values()):
        docs = field_docs(type(section))
        assert set(docs) == set(vars(section))
        assert all(text.endswith(".") for text in docs.values())


def test_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8").endswith(to_markdown()), "python tools/make_recipe_reference.py"
